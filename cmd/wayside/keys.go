package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/image/keys"
)

// addKeysFlag adds --keys: the folder of the signing keys.
func addKeysFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "keys", "", "folder of the signing `keys` (default: wayside/keys in the user's configuration folder)")
}

// keysDir is the folder given, or the user's own. Keys never lie in a build
// folder: those are copied, archived and deleted.
func keysDir(flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	base, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find a folder for the keys: %v; give --keys DIR", err)
	}
	return filepath.Join(base, "wayside", "keys"), nil
}

func newKeysCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "keys", Short: "Make and show the signing keys"}
	var dir string
	initCmd := &cobra.Command{
		Use:   "init",
		Short: "Make the development keys, if there are none yet",
		Long: `Makes the key pair that signs boot loader and kernel image (the UEFI "db" key).
Existing keys are kept. wayside build does the same on first use.`,
		Example: `  wayside keys init
  wayside keys init --keys /media/usb/wayside-keys`,
		Args: flagsOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := keysDir(dir)
			if err != nil {
				return err
			}
			k, created, err := keys.LoadOrCreate(dir)
			if err != nil {
				return err
			}
			verb := "found"
			if created {
				verb = "made"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s keys in %s\ncertificate %s\n", verb, dir, k.Fingerprint())
			return nil
		},
	}
	addKeysFlag(initCmd, &dir)
	return group(cmd, initCmd)
}
