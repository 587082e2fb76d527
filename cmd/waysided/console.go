package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/services/console"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

type consoleFlags struct {
	common
	broker                      []string
	listen, initSocket, secrets string
}

func newConsoleCmd(env environment) *cobra.Command {
	var f consoleFlags
	cmd := &cobra.Command{
		Use:   "console",
		Short: "The status page of the box",
		Long: `console shows one page that says whether all is well and what flows, /healthz
for machines, /metrics of all services for Prometheus and /status as JSON. It
asks init and the status sockets of the services. With telemetry in the profile
it writes what it learns to a topic of the broker as well.`,
		Example: `  waysided console --listen 127.0.0.1:8080 --run-dir /tmp/run
  waysided broker --data /tmp/data --run-dir /tmp/run       # shown on that page`,
		RunE: func(cmd *cobra.Command, _ []string) error { return runConsole(cmd, env, f) },
	}
	initSocket := ""
	if env.supervised {
		initSocket = manifest.InitSocket
	}
	f.bind(cmd, manifest.StatusEntry)
	bindBroker(cmd, &f.broker)
	cmd.Flags().StringVar(&f.listen, "listen", "", "`HOST:PORT` for browsers (default: the profile's)")
	cmd.Flags().StringVar(&f.initSocket, "init-socket", initSocket, "unix socket `FILE` of the box's init; none on a laptop")
	cmd.Flags().StringVar(&f.secrets, "secrets", "", "folder `DIR` with "+tokenFile+", which update verbs over the network need; without one they are off")
	return cmd
}

// tokenFile is the secret that whoever asks the box to act must know.
const tokenFile = "api.token"

// apiToken reads the token. One that cannot be taken turns the verbs off, and
// not the page.
func apiToken(dir string, log *slog.Logger) string {
	if dir == "" {
		return ""
	}
	text, err := os.ReadFile(filepath.Join(dir, tokenFile))
	token := strings.TrimSpace(string(text))
	if err == nil && token == "" {
		err = errors.New("it is empty")
	}
	if err == nil {
		err = console.CheckToken(token)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		log.Error("update verbs over the network are off", "file", tokenFile, "error", err)
		return ""
	}
	return token
}

// telemetryOf is what the profile says of it, nil if nothing.
func telemetryOf(profile *site.Profile, broker []string) (*console.Telemetry, error) {
	if profile.Telemetry == nil {
		return nil, nil
	}
	every, err := time.ParseDuration(profile.Telemetry.Every)
	if err != nil {
		return nil, fmt.Errorf("telemetry: every: %w", err)
	}
	return &console.Telemetry{Broker: boxBroker(broker, profile), Topic: profile.Telemetry.Topic, Every: every, Site: profile.Site}, nil
}

func runConsole(cmd *cobra.Command, env environment, f consoleFlags) error {
	profile, err := f.profile()
	if err != nil {
		return err
	}
	telemetry, err := telemetryOf(profile, f.broker)
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
		Token:      apiToken(f.secrets, log),
		Telemetry:  telemetry,
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
