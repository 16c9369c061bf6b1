package loop

import "fmt"

// LogLevel orders log lines by weight.
type LogLevel uint8

const (
	LogDebug LogLevel = iota + 1
	LogInfo
	LogWarn
	LogError
	LogFatal
)

// LogFunc takes one line without prefix, time or newline. It is called from any goroutine, loops included, and must
// not wait for long.
type LogFunc func(level LogLevel, format string, args ...any)

// gnetLog hands gnet's own lines to ours. They tell about gnet's inside and are of use to developers only, errors
// excepted.
type gnetLog struct{ log LogFunc }

func (g gnetLog) Debugf(format string, args ...any) {
	g.log(LogDebug, "gnet: %s", fmt.Sprintf(format, args...))
}
func (g gnetLog) Infof(format string, args ...any) {
	g.log(LogDebug, "gnet: %s", fmt.Sprintf(format, args...))
}
func (g gnetLog) Warnf(format string, args ...any) {
	g.log(LogDebug, "gnet: %s", fmt.Sprintf(format, args...))
}
func (g gnetLog) Errorf(format string, args ...any) {
	g.log(LogError, "gnet: %s", fmt.Sprintf(format, args...))
}
func (g gnetLog) Fatalf(format string, args ...any) {
	g.log(LogError, "gnet: %s", fmt.Sprintf(format, args...))
}
