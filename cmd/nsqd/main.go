package main

import (
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/nsqloop/nsqloop/cmd/internal/logging"
	"github.com/nsqloop/nsqloop/cmd/internal/options"
)

const program = "nsqd"

func main() {
	// SIGHUP and the rest keep their default: only these two stop the daemon cleanly. The channel is never read again after the first
	// signal, so further ones are ignored while it stops.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr, signals))
}

// run is the daemon from its arguments to its exit status.
func run(args []string, stdout, stderr io.Writer, signals <-chan os.Signal) int {
	o, exit := options.Load(program, args)
	if exit != nil {
		return exit.Leave(program, stdout, stderr)
	}
	if o.Verify != "" {
		return verify(o.Verify, stdout, stderr)
	}
	log := logging.New(stderr, o.LogPrefix, o.LogLevel, o.LogFormat)
	d := &daemon{o: o, log: log}
	if err := d.start(); err != nil {
		err = errorsOf(err, d.stop())
		logging.StartupFatal(stderr, program, o.LogFormat, err.Error())
		return 1
	}
	status := 0
	select {
	case <-signals:
	case <-d.ended():
		log.Fatalf("%s", d.http.Err())
		status = 1
	}
	if err := d.stop(); err != nil {
		log.Errorf("NSQ: stopping failed - %s", err)
		status = 1
	}
	log.Infof("NSQ: bye")
	return status
}
