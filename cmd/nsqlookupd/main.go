// Command nsqlookupd tells consumers which nsqd has which topic.
package main

import (
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/nsqloop/nsqloop/cmd/internal/logging"
	"github.com/nsqloop/nsqloop/cmd/internal/options"
)

const program = "nsqlookupd"

func main() {
	// Only these two stop the daemon cleanly; further ones are ignored while it stops.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr, signals))
}

// run is the daemon from its arguments to its exit status.
func run(args []string, stdout, stderr io.Writer, signals <-chan os.Signal) int {
	o, exit := options.LoadLookupd(program, args)
	if exit != nil {
		return exit.Leave(program, stdout, stderr)
	}
	log := logging.New(stderr, o.LogPrefix, o.LogLevel, o.LogFormat)
	d := &daemon{o: o, log: log}
	if err := d.start(); err != nil {
		err = d.abort(err)
		logging.StartupFatal(stderr, program, o.LogFormat, "failed to instantiate nsqlookupd - "+err.Error())
		return 1
	}
	status := 0
	select {
	case <-signals:
	case <-d.http.Done():
		log.Fatalf("%s", d.http.Err())
		status = 1
	}
	if err := d.stop(); err != nil {
		log.Errorf("stopping failed - %s", err)
		status = 1
	}
	return status
}
