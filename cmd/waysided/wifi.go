package main

import (
	"cmp"
	"errors"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/services/wifi"
)

type wifiFlags struct {
	common
	secrets, dir, program string
}

func newWifiCmd(env environment) *cobra.Command {
	var f wifiFlags
	cmd := &cobra.Command{
		Use:   "wifi",
		Short: "Joins the wireless networks of the profile",
		Long: `wifi runs wpa_supplicant with what the profile says under network.wifi, and
tells what the radio is doing. On the box it runs if the profile says so.`,
		Example: `  waysided wifi --site shop.yaml --secrets secrets --dir /tmp/wifi`,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runWifi(cmd, env, f) },
	}
	f.bind(cmd, "")
	cmd.Flags().StringVar(&f.secrets, "secrets", env.credentialsDir, "folder `DIR` of the files that network.wifi names: passphrases, certificates, keys")
	cmd.Flags().StringVar(&f.dir, "dir", env.runtimeDir, "folder `DIR` for the supplicant's configuration and socket")
	cmd.Flags().StringVar(&f.program, "supplicant", wifi.Program, "the `PROGRAM`")
	return cmd
}

func runWifi(cmd *cobra.Command, env environment, f wifiFlags) error {
	profile, err := f.profile()
	if err != nil {
		return err
	}
	if profile.Network.Wifi == nil {
		return errors.New("the profile has no network.wifi")
	}
	if f.dir == "" {
		return errors.New("no folder for the supplicant's files: give --dir")
	}
	log, reg := env.logger("wifi"), newRegistry()
	s, err := wifi.New(wifi.Config{Wifi: *profile.Network.Wifi, Secrets: cmp.Or(f.secrets, "."), Dir: f.dir,
		Program: f.program, Registerer: reg, Log: log})
	if err != nil {
		return err
	}
	return runService(cmd.Context(), "wifi", s, options{
		env: env, log: log, registry: reg, status: env.statusSocket("wifi", f.runDir),
	})
}
