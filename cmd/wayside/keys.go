package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/image/keys"
)

// addKeysFlag adds --keys: the folder of the signing keys.
func addKeysFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "keys", "", "folder `DIR` of the signing keys (default: wayside/keys in the user's configuration folder)")
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
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Make, show and change the signing keys",
		Example: `  wayside keys init
  wayside keys list
  wayside keys rotate targets`,
	}
	return group(cmd, newKeysInitCmd(), newKeysListCmd(), newKeysShowCmd(), newKeysRotateCmd(), newKeysRenewCmd())
}

func newKeysInitCmd() *cobra.Command {
	var k keyFlags
	var o keys.Options
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the keys that are not there yet",
		Long: `Makes a key set: PK, KEK and db for the firmware (db signs boot loader and
kernel image), and the keys of the update roles root, targets, snapshot and
timestamp with the first update root. Existing keys are kept. wayside build
does the same on first use, without a passphrase: good for development.

For releases, encrypt the keys or name a signer program for them in keys.yaml,
and keep the root keys apart: docs/updates.md, docs/security.md.`,
		Example: `  wayside keys init
  wayside keys init --keys /media/usb/acme --encrypt --root-keys 3 --root-threshold 2 --name Acme`,
		Args: flagsOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := keysDir(k.dir)
			if err != nil {
				return err
			}
			pass, err := k.passphrase()
			if err != nil {
				return err
			}
			made, err := keys.Init(dir, o, pass, time.Now())
			if err != nil {
				return err
			}
			if err := asAsked(cmd, k, o); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if len(made) == 0 {
				fmt.Fprintf(out, "found keys in %s\n", dir)
			} else {
				fmt.Fprintf(out, "made keys in %s: %s\n", dir, strings.Join(made, ", "))
			}
			return printFingerprint(out, dir)
		},
	}
	k.add(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&k.encrypt, "encrypt", false, "ask for passphrases and encrypt the key files (implied by a passphrase that is given)")
	fl.IntVar(&o.RootKeys, "root-keys", 1, "how many root keys to make")
	fl.IntVar(&o.RootThreshold, "root-threshold", 1, "how many root keys must sign a root")
	fl.StringVar(&o.Name, "name", "", "whose keys these are, for the certificates")
	return cmd
}

// asAsked tells whether the root keys are as many as was asked for: a set that
// was there already is kept as it is.
func asAsked(cmd *cobra.Command, k keyFlags, o keys.Options) error {
	if !cmd.Flags().Changed("root-keys") && !cmd.Flags().Changed("root-threshold") {
		return nil
	}
	f, err := k.open()
	if err != nil {
		return err
	}
	l, err := f.List()
	if err != nil {
		return err
	}
	have := 0
	for _, key := range l.Keys {
		if key.Role == keys.RoleRoot && key.Current {
			have++
		}
	}
	if threshold := l.Thresholds[keys.RoleRoot]; have != o.RootKeys || threshold != o.RootThreshold {
		return fmt.Errorf("%s holds keys already, with %d of %d root keys to sign, and keeps them; make another set in another folder", f.Dir(), threshold, have)
	}
	return nil
}

func printFingerprint(out io.Writer, dir string) error {
	cert, err := keys.LoadCert(filepath.Join(dir, keys.CertFile))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "certificate %s\n", keys.Pair{Cert: cert}.Fingerprint())
	return err
}

func newKeysListCmd() *cobra.Command {
	var k keyFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List all keys, with roles, fingerprints and expiry",
		Example: `  wayside keys list
  wayside keys list --json | jq '.keys[] | select(.current)'`,
		Args: flagsOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return listKeys(cmd.OutOrStdout(), k, asJSON, "")
		},
	}
	addKeysFlag(cmd, &k.dir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newKeysShowCmd() *cobra.Command {
	var k keyFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show the keys of a role, or one key",
		Example: `  wayside keys show db
  wayside keys show targets-1 --json`,
		Args: want("a role or the name of a key", cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return listKeys(cmd.OutOrStdout(), k, asJSON, args[0])
		},
	}
	addKeysFlag(cmd, &k.dir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// listKeys prints all keys, or those of a name or role.
func listKeys(out io.Writer, k keyFlags, asJSON bool, only string) error {
	f, err := k.open()
	if err != nil {
		return err
	}
	l, err := f.List()
	if err != nil {
		return err
	}
	if only != "" {
		var some []keys.Info
		for _, key := range l.Keys {
			if key.Name == only || key.Role == only {
				some = append(some, key)
			}
		}
		l.Keys = some
	}
	if len(l.Keys) == 0 {
		return fmt.Errorf("%s holds no key %s; wayside keys init makes keys", f.Dir(), only)
	}
	if asJSON {
		return json.NewEncoder(out).Encode(l)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tALGORITHM\tKEPT IN\tSTATE\tFINGERPRINT")
	for _, key := range l.Keys {
		state := "retired"
		if key.Current {
			state = "current"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", key.Name, key.Algorithm, key.Kept, state, key.Fingerprint)
	}
	if l.Root > 0 {
		signers := "1 root key signs"
		if n := l.Thresholds[keys.RoleRoot]; n != 1 {
			signers = fmt.Sprint(n, " root keys sign")
		}
		fmt.Fprintf(w, "update root %d: %s, expires %s\n", l.Root, signers, l.Expires.Format(time.DateOnly))
	}
	return w.Flush()
}

func newKeysRotateCmd() *cobra.Command {
	var k keyFlags
	var which string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "rotate ROLE",
		Short: "Replace a key by a new one",
		Long: `Makes a new key for a role. For root, targets, snapshot and timestamp it signs
the next update root, which needs the root keys; boxes follow when the
repository was refreshed: wayside publish --refresh. For PK, KEK and db the old
key stays in the folder with a number, and firmware must be told of the new one.`,
		Example: `  wayside keys rotate targets
  wayside keys rotate root --key root-2
  wayside keys rotate db`,
		ValidArgs: []string{"root", "targets", "snapshot", "timestamp", "PK", "KEK", "db"},
		Args:      want("one ROLE: root, targets, snapshot, timestamp, PK, KEK or db", cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := k.encryptAs(args[0]); err != nil {
				return err
			}
			f, err := k.open()
			if err != nil {
				return err
			}
			r, err := f.Rotate(args[0], which, time.Now())
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is new, %s is retired\n", r.New, r.Retired)
			if r.Root > 0 {
				fmt.Fprintf(cmd.OutOrStdout(), "update root %d is signed; next: wayside publish --refresh --repo DIR, and build images from now on with it\n", r.Root)
			} else {
				fmt.Fprintf(cmd.OutOrStdout(), "next: firmware that has %s enrolled must be told of the new one (docs/security.md)\n", args[0])
			}
			return nil
		},
	}
	k.add(cmd)
	cmd.Flags().BoolVar(&k.encrypt, "encrypt", false, "ask for a passphrase and encrypt the new key's file (default: as the old one's)")
	cmd.Flags().StringVar(&which, "key", "", "`NAME` of the key to replace (default: the role's oldest)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// encryptAs has a new key encrypted where an old one of its role is.
func (k *keyFlags) encryptAs(role string) error {
	f, err := k.open()
	if err != nil {
		return err
	}
	l, err := f.List()
	for _, key := range l.Keys {
		if key.Role == role && key.Kept == keys.KeptEncrypted {
			k.encrypt = true
		}
	}
	return err
}

func newKeysRenewCmd() *cobra.Command {
	var k keyFlags
	cmd := &cobra.Command{
		Use:     "renew",
		Short:   "Sign the next update root with the same keys and a later expiry",
		Example: `  wayside keys renew --keys /media/usb/acme`,
		Args:    flagsOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := k.open()
			if err != nil {
				return err
			}
			version, err := f.Renew(time.Now())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "update root %d is signed; next: wayside publish --refresh --repo DIR\n", version)
			return nil
		},
	}
	k.add(cmd)
	return cmd
}
