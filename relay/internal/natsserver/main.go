// Command natsserver is the NATS server in the version that go.mod names. The relay's tests run it.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/nats-io/nats-server/v2/server"
)

func main() {
	flags := flag.NewFlagSet("natsserver", flag.ExitOnError)
	help := func() { flags.PrintDefaults() }
	opts, err := server.ConfigureOptions(flags, os.Args[1:], server.PrintServerAndExit, help, server.PrintTLSHelpAndDie)
	if err != nil {
		exit(err)
	}
	s, err := server.NewServer(opts)
	if err != nil {
		exit(err)
	}
	s.ConfigureLogger()
	if err := server.Run(s); err != nil {
		exit(err)
	}
	s.WaitForShutdown()
}

func exit(err error) {
	fmt.Fprintln(os.Stderr, "natsserver:", err)
	os.Exit(1)
}
