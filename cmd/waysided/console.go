package main

import (
	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/services/console"
	"github.com/waysideos/wayside/services/manifest"
)

type consoleFlags struct {
	common
	listen, initSocket string
}

func newConsoleCmd(env environment) *cobra.Command {
	var f consoleFlags
	cmd := &cobra.Command{
		Use:   "console",
		Short: "The status page of the box",
		Long: `console shows one page that says whether all is well and what flows, /healthz
for machines, /metrics of all services for Prometheus and /status as JSON. It
asks init and the status sockets of the services.`,
		Example: `  waysided console --listen 127.0.0.1:8080 --run-dir /tmp/run
  waysided broker --data /tmp/data --run-dir /tmp/run       # shown on that page`,
		RunE: func(cmd *cobra.Command, _ []string) error { return runConsole(cmd, env, f) },
	}
	initSocket := ""
	if env.supervised {
		initSocket = manifest.InitSocket
	}
	f.bind(cmd, manifest.StatusEntry)
	cmd.Flags().StringVar(&f.listen, "listen", "", "host:port for browsers (default: the profile's)")
	cmd.Flags().StringVar(&f.initSocket, "init-socket", initSocket, "unix socket of the box's init; none on a laptop")
	return cmd
}

func runConsole(cmd *cobra.Command, env environment, f consoleFlags) error {
	profile, err := f.profile()
	if err != nil {
		return err
	}
	log, reg := env.logger("console"), newRegistry()
	socks, err := listen([]string{"console", "http"}, or(f.listen, profile.Console.Listen), log)
	if err != nil {
		return err
	}
	listener, err := socks.one()
	if err != nil {
		return err
	}
	c, err := console.New(console.Config{
		Listener:   listener,
		InitSocket: f.initSocket,
		RunDir:     f.runDir,
		Services:   serviceNames,
		Registerer: reg,
		Log:        log,
	})
	if err != nil {
		socks.close()
		return err
	}
	statusDir := ""
	if cmd.Flags().Changed("run-dir") {
		statusDir = f.runDir // the default belongs to the box
	}
	return runService(cmd.Context(), "console", c, options{
		env: env, log: log, registry: reg, announce: socks.announce(),
		status: env.statusSocket("console", statusDir),
	})
}
