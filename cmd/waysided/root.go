package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/services/site"
)

func newRootCmd(env environment) *cobra.Command {
	root := &cobra.Command{
		Use:   "waysided",
		Short: "The services of a Wayside box",
		Long: `waysided is every service of a Wayside box in one binary. On the box its init
starts each by a unit file; each also runs by itself on a laptop.`,
		Example: `  waysided broker --data /tmp/data --listen 127.0.0.1:9092
  waysided replicator --site shop.yaml --broker 127.0.0.1:9092
  waysided connect --site shop.yaml --data /tmp/connect
  waysided mqtt --broker 127.0.0.1:9092 --listen 127.0.0.1:1883
  waysided console --run-dir /tmp/run --listen 127.0.0.1:8080`,
		PersistentPreRunE: func(*cobra.Command, []string) error { return env.awaitStart() },
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.AddCommand(newBrokerCmd(env), newReplicatorCmd(env), newMQTTCmd(env), newConnectCmd(env), newConsoleCmd(env), newUpdaterCmd(env),
		newWifiCmd(env))
	return root
}

// serviceNames are the services this binary holds, which is also where the
// console looks when there is no init to ask.
var serviceNames = []string{"broker", "replicator", "mqtt", "connect", "console", "updater", "wifi"}

// serviceArgs returns the arguments after the program's name, with the
// service put first when the program is called by its name.
func serviceArgs(argv []string) []string {
	if len(argv) == 0 {
		return nil
	}
	if name := filepath.Base(argv[0]); slices.Contains(serviceNames, name) {
		return append([]string{name}, argv[1:]...)
	}
	return argv[1:]
}

// common holds the flags that every service has.
type common struct {
	site   string
	runDir string
}

func (c *common) bind(cmd *cobra.Command, runDir string) {
	cmd.Args = cobra.NoArgs
	cmd.Flags().StringVar(&c.site, "site", "", "site profile `FILE`; without one, the built-in defaults")
	cmd.Flags().StringVar(&c.runDir, "run-dir", runDir, "folder `DIR` of the services' status sockets, DIR/SERVICE/status.sock")
}

// profile reads the site profile. Without one a service keeps to this
// machine: it listens on 127.0.0.1 where the box listens on every address.
func (c *common) profile() (*site.Profile, error) {
	if c.site == "" {
		p := site.Default()
		for _, addr := range []*string{&p.Broker.Listen, &p.Connect.MQTT.Listen, &p.Console.Listen} {
			*addr = "127.0.0.1" + *addr
		}
		return p, nil
	}
	data, err := os.ReadFile(c.site)
	if err != nil {
		return nil, fmt.Errorf("read site profile: %v", err)
	}
	p, err := site.Parse(c.site, data)
	if err != nil {
		return nil, fmt.Errorf("site profile is not valid:\n%v", err)
	}
	return p, nil
}
