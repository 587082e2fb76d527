package main

import (
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/services/connect"
)

// connectSockets names what a socket unit hands over: one for each address
// that connectors of the profile listen on.
var connectSockets = []string{"connect"}

type connectFlags struct {
	common
	broker  []string
	data    string
	secrets string
}

func newConnectCmd(env environment) *cobra.Command {
	var f connectFlags
	cmd := &cobra.Command{
		Use:   "connect",
		Short: "The device connectors of the box",
		Long: `connect runs every connector of the profile but the MQTT broker: what devices
say becomes Kafka records, and commands from a topic become writes to devices.

A profile that changes is read again, within seconds or when HUP comes: only
connectors whose entries changed are stopped and started. One with an error is
refused as a whole, and all go on as they were.`,
		Example: `  waysided connect --site shop.yaml --data /tmp/connect
  waysided connect --site shop.yaml --data /tmp/connect --broker 127.0.0.1:9092 --secrets ./secrets`,
		RunE: func(cmd *cobra.Command, _ []string) error { return runConnect(cmd, env, f) },
	}
	f.bind(cmd, "")
	bindBroker(cmd, &f.broker)
	cmd.Flags().StringVar(&f.data, "data", env.stateDir, "folder `DIR` of what waits for the broker; without one it waits in memory")
	cmd.Flags().StringVar(&f.secrets, "secrets", env.credentialsDir, "folder `DIR` of the files that the profile names: certificates, keys, passwords")
	return cmd
}

func runConnect(cmd *cobra.Command, env environment, f connectFlags) error {
	trustPublicAuthorities()
	seen, _ := os.Stat(f.site) // what changes from here on is read again
	profile, err := f.profile()
	if err != nil {
		return err
	}
	log, reg := env.logger("connect"), newRegistry()
	opts := options{env: env, log: log, registry: reg, status: env.statusSocket("connect", f.runDir)}
	given, err := inherited(connectSockets, log)
	if err != nil {
		return err
	}
	if len(profile.Connect.Instances()) == 0 {
		idle := newIdle("connect", "not in use: the profile has no connectors", given)
		return runService(cmd.Context(), "connect", &waiting{idle, f, seen, log}, opts)
	}
	c, err := newConnectors(f, profile, log, func(cfg *connect.Config) { cfg.Listen, cfg.Registerer = handedOver(given), reg })
	if err != nil {
		return err
	}
	c.seen = seen
	return runService(cmd.Context(), "connect", c, opts)
}

// handedOver is net.Listen that takes the supervisor's socket of the port
// where there is one. A connector may listen again after a fault, so it gets a
// duplicate each time.
func handedOver(given []net.Listener) func(string) (net.Listener, error) {
	return func(address string) (net.Listener, error) {
		_, port, _ := net.SplitHostPort(address)
		for _, l := range given {
			t, ok := l.(*net.TCPListener)
			if _, p, _ := net.SplitHostPort(l.Addr().String()); !ok || p != port {
				continue
			}
			file, err := t.File()
			if err != nil {
				return nil, err
			}
			defer file.Close()
			return net.FileListener(file)
		}
		return net.Listen("tcp", address)
	}
}
