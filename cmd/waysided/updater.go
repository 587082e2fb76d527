package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	_ "time/tzdata" // the box has no time zones either

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/updater"
	"github.com/waysideos/wayside/services/updater/drivers"
	"github.com/waysideos/wayside/services/vfs"
)

type updaterFlags struct {
	common
	broker                       []string
	state, root, initSocket, dev string
	media, secrets               string
}

func newUpdaterCmd(env environment) *cobra.Command {
	var f updaterFlags
	cmd := &cobra.Command{
		Use:   "updater",
		Short: "Takes new releases, and decides on trial whether they stay",
		Long: `updater follows the signed repositories of the profile's section "update",
writes a release into the inactive slot, has init start it, and commits it only
when the box does all that it did before. Without init it only shows what the
sources offer.`,
		Example: `  waysided updater --site shop.yaml --state /tmp/updater --root root.json`,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runUpdater(cmd, env, f) },
	}
	initSocket := ""
	if env.supervised {
		initSocket = manifest.InitSocket
	}
	f.bind(cmd, manifest.StatusEntry)
	bindBroker(cmd, &f.broker)
	cmd.Flags().StringVar(&f.state, "state", env.stateDir, "folder `DIR` of what is remembered (default: the supervisor's StateDirectory)")
	cmd.Flags().StringVar(&f.root, "root", updater.RootFile, "TUF root `FILE` to trust at first")
	cmd.Flags().StringVar(&f.initSocket, "init-socket", initSocket, "unix socket `FILE` of the box's init; none on a laptop")
	cmd.Flags().StringVar(&f.dev, "dev", "/dev", "folder `DIR` of the slots' device nodes")
	cmd.Flags().StringVar(&f.media, "media", manifest.RemovableDir, "folder `DIR` where removable disks are mounted")
	cmd.Flags().StringVar(&f.secrets, "secrets", env.credentialsDir, "folder `DIR` with update-ca.pem, authorities of https sources besides the public ones")
	return cmd
}

func runUpdater(cmd *cobra.Command, env environment, f updaterFlags) error {
	trustPublicAuthorities()
	profile, err := f.profile()
	if err != nil {
		return err
	}
	if f.state == "" {
		return errors.New("where to remember things is not known: give --state DIR")
	}
	root, err := os.ReadFile(f.root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the TUF root: %v", err)
	}
	log, reg := env.logger("updater"), newRegistry()
	ca := ""
	if f.secrets != "" {
		ca = filepath.Join(f.secrets, "update-ca.pem")
	}
	authorities, err := trusting(ca)
	if err != nil {
		log.Error("sources with certificates of their own are not trusted", "error", err)
	}
	api, err := updateAPI(env, f, cmd.Flags().Changed("run-dir"))
	if err != nil {
		return err
	}
	cfg := updater.Config{
		Site: profile.Update, Root: root, Arch: runtime.GOARCH,
		State: vfs.OS(f.state), Dev: vfs.OS(f.dev), SiteFile: f.site, RunDir: f.runDir, Media: f.media,
		Broker: boxBroker(f.broker, profile), API: api, TLS: authorities, Registerer: reg, Log: log,
	}
	if f.initSocket != "" {
		cfg.Init = updater.InitSocket(f.initSocket)
		cfg.Drivers = drivers.Machine{Sys: "/sys", Root: os.DirFS("/")}
	}
	u, err := updater.New(cfg)
	if err != nil {
		if api != nil {
			api.Close()
		}
		return err
	}
	statusDir := ""
	if cmd.Flags().Changed("run-dir") {
		statusDir = f.runDir // the default belongs to the box
	}
	return runService(cmd.Context(), "updater", u, options{
		env: env, log: log, registry: reg, status: env.statusSocket("updater", statusDir),
	})
}

// updateAPI listens on the socket of the updater's own API, nil for nowhere.
func updateAPI(env environment, f updaterFlags, given bool) (net.Listener, error) {
	dir := env.runtimeDir
	if dir == "" && given && !env.supervised {
		dir = filepath.Join(f.runDir, "updater")
	}
	if dir == "" {
		return nil, nil
	}
	return listenUnix(filepath.Join(dir, manifest.UpdateSock))
}
