package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/services/broker"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/vfs"
)

type brokerFlags struct {
	common
	data, listen, advertised, secrets, formatLevel string
}

func newBrokerCmd(env environment) *cobra.Command {
	var f brokerFlags
	cmd := &cobra.Command{
		Use:   "broker",
		Short: "The Kafka broker of the box",
		Long: `broker keeps topics on disk and serves them by the Kafka protocol. A record
that was acknowledged with acks=all survives the plug being pulled.`,
		Example: `  waysided broker --data /tmp/data --listen 127.0.0.1:9092
  waysided broker --data /tmp/data --listen 127.0.0.1:0     # prints its port
  waysided broker --data /tmp/data --site shop.yaml --advertised broker.example.com:9092`,
		RunE: func(cmd *cobra.Command, _ []string) error { return runBroker(cmd, env, f) },
	}
	f.bind(cmd, "")
	cmd.Flags().StringVar(&f.data, "data", env.stateDir, "folder `DIR` for the records (needed unless STATE_DIRECTORY is set)")
	cmd.Flags().StringVar(&f.secrets, "secrets", env.credentialsDir, "folder `DIR` of the files that the profile's listeners name: certificates, keys, users")
	cmd.Flags().StringVar(&f.listen, "listen", "", "`HOST:PORT` for clients (default: the profile's)")
	cmd.Flags().StringVar(&f.formatLevel, "format-level", "", "`FILE` with the newest format level that may be written, which the box's init keeps (default: the newest there is)")
	cmd.Flags().StringVar(&f.advertised, "advertised", "", "`HOST:PORT` that clients are told (default: the profile's, else the address they dialled)")
	return cmd
}

func runBroker(cmd *cobra.Command, env environment, f brokerFlags) error {
	if f.data == "" {
		return errors.New("broker: --data DIR is missing: a folder to keep records in")
	}
	profile, err := f.profile()
	if err != nil {
		return err
	}
	log := env.logger("broker")
	fixed, err := advertised(f.advertised, profile.Broker.Advertised, env.supervised)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.data, 0o750); err != nil {
		return fmt.Errorf("make data folder: %v", err)
	}
	socks, err := listen([]string{"kafka", "broker"}, or(f.listen, profile.Broker.Listen), log)
	if err != nil {
		return err
	}
	if env.test == testLie {
		for i, l := range socks.listeners {
			socks.listeners[i] = lyingListener{l}
		}
	}
	reg := newRegistry()
	cfg := broker.Config{
		FS:         vfs.OS(f.data),
		Listeners:  socks.listeners,
		Topics:     profile.Broker.Topics,
		AutoCreate: *profile.Broker.AutoCreate,
		DiskShare:  profile.Broker.DiskShare,
		Registerer: reg,
		Log:        log,
	}
	if f.formatLevel != "" {
		cfg.FormatLevel = func() int { return manifest.ReadFormatLevel(f.formatLevel) }
	}
	if fixed != nil {
		cfg.Advertise = fixed.tell
	}
	secure(&cfg, profile.Broker, f.secrets)
	b, err := broker.New(cfg)
	if err != nil {
		socks.close()
		return err
	}
	defer collectOften(b.Recovered())()
	return runService(cmd.Context(), "broker", b, options{
		env: env, log: log, registry: reg, announce: socks.announce(),
		status: env.statusSocket("broker", f.runDir),
	})
}

// recoveryGC is the GOGC of a start: to open thousands of logs makes more
// garbage than they take, which would then be the most that the broker ever has.
const recoveryGC = 50

// collectOften has garbage collected sooner until done is closed or end called.
func collectOften(done <-chan struct{}) (end func()) {
	before := debug.SetGCPercent(recoveryGC)
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-done:
		case <-stop:
		}
		debug.SetGCPercent(before)
	}()
	return func() {
		close(stop)
		<-ended
	}
}

// address is a host and port to tell clients.
type address struct {
	host string
	port int32
}

// tell names the address to a client, except to one on this machine: it is
// told what it dialled, since the fixed address may only work from outside
// (a port forwarded by a hypervisor or a router).
func (a *address) tell(conn net.Conn) (string, int32) {
	if local, ok := conn.LocalAddr().(*net.TCPAddr); ok && local.IP.IsLoopback() {
		return local.IP.String(), int32(local.Port)
	}
	return a.host, a.port
}

// advertised picks the fixed address: the flag's, on a box the hypervisor's,
// the profile's; nil when there is none.
func advertised(flag, profile string, onBox bool) (*address, error) {
	text := flag
	if text == "" && onBox {
		b, err := os.ReadFile(manifest.Advertised)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read advertised address: %v", err)
		}
		text = strings.TrimSpace(string(b))
	}
	if text = or(text, profile); text == "" {
		return nil, nil
	}
	host, p, err := net.SplitHostPort(text)
	port, perr := strconv.ParseUint(p, 10, 16)
	if err != nil || perr != nil || host == "" || port == 0 {
		return nil, fmt.Errorf("advertised address %q: want host:port", text)
	}
	return &address{host, int32(port)}, nil
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
