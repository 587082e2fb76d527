package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/image/keys"
	"github.com/waysideos/wayside/services/claim"
)

// newClaimCmd is `wayside claim`: the small files that make boxes of one image
// and one profile somebody's.
func newClaimCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "claim",
		Short: "Make and show claims: name and secrets of one box out of many",
		Example: `  wayside claim new --name shop-042 --secret link.password=@shop-042.pw -o shop-042.claim
  wayside claim inspect shop-042.claim
  wayside flash IMAGE /dev/sdb --site shop.yaml --claim shop-042.claim`,
	}
	return group(cmd, newClaimNewCmd(), newClaimInspectCmd())
}

// claimOptions is what `wayside claim new` is asked for.
type claimOptions struct {
	row     claimRow
	from    string // CSV file
	expires string
	out     string
	asJSON  bool
	keys    keyFlags
}

func newClaimNewCmd() *cobra.Command {
	var o claimOptions
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Make the claim of a box, or one for each row of a table",
		Long: `Makes a claim: a signed file with a box's name, the variables of its site
profile that are its own, and its secret files. Put it on a box with wayside
flash --claim, or by hand as wayside/box.claim on the boot partition; the box
takes it over at its next start and wipes it from there. The key that signs it is
that of the update role targets: boxes take it whose image was built with the
same key folder. docs/formats/claim.md has the format.

A table for --from is CSV with a row of headings: name, and if wanted serial,
mac, var.NAME for variables and secret.FILE for secrets, where a cell is the
secret itself, or @ and a file beside the table. All rows are checked before the
first file is written.`,
		Example: `  wayside claim new --name shop-042 --secret link.password=@pw -o shop-042.claim
  wayside claim new --name shop-042 --var till=7 --serial C0FFEE --expires 14d
  wayside claim new --from boxes.csv -o claims/ --expires 2027-03-31`,
		Args: flagsOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			made, err := o.run(time.Now(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if o.asJSON {
				return printJSON(cmd.OutOrStdout(), made)
			}
			for _, c := range made {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: claim of %s, to be taken over by %s; it holds secrets: keep it as you keep them\n",
					c.File, c.Name, c.Expires.Format(time.DateOnly))
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&o.row.name, "name", "", "`NAME` of the box; takes the place of the profile's site")
	fl.StringArrayVar(&o.row.secrets, "secret", nil, "a secret file of the box: `NAME=@FILE`, once for each")
	fl.StringArrayVar(&o.row.variables, "var", nil, "a variable of the profile: `NAME=VALUE`, once for each")
	fl.StringVar(&o.row.serial, "serial", "", "only for the machine with this serial `NUMBER` (default: any)")
	fl.StringVar(&o.row.mac, "mac", "", "only for the machine with this network `ADDRESS` (default: any)")
	fl.StringVar(&o.expires, "expires", "90d", "until when a box takes it over: days, as `90d`, or a day, 2027-03-31")
	fl.StringVar(&o.from, "from", "", "make one for each row of this CSV `FILE`")
	fl.StringVarP(&o.out, "output", "o", "", "`FILE` to write, or with --from the folder (default: NAME.claim, claims)")
	fl.BoolVar(&o.asJSON, "json", false, "print what was made as JSON")
	o.keys.add(cmd)
	for _, one := range []string{"name", "secret", "var", "serial", "mac"} {
		cmd.MarkFlagsMutuallyExclusive("from", one)
	}
	return cmd
}

// run makes the claims that are asked for: all, or none.
func (o *claimOptions) run(now time.Time, log io.Writer) ([]madeClaim, error) {
	expires, err := expiry(o.expires, now)
	if err != nil {
		return nil, err
	}
	rows, beside := []claimRow{o.row}, ""
	if o.from != "" {
		if rows, err = readRows(o.from); err != nil {
			return nil, err
		}
		beside = filepath.Dir(o.from)
	}
	f, err := o.keys.open()
	if err != nil {
		return nil, err
	}
	var made []madeClaim
	var payloads [][]byte
	for _, row := range rows {
		c, err := row.claim(beside)
		if err != nil {
			return nil, err
		}
		c.Issued, c.Expires = now.UTC().Round(0), expires
		payload, err := c.Encode()
		if err != nil {
			return nil, fmt.Errorf("claim of %q: %w", row.name, err)
		}
		m := describe(o.file(c.Name), c)
		if _, err := os.Lstat(m.File); err == nil {
			return nil, fmt.Errorf("write claim: %s exists; give another -o, or delete it", m.File)
		}
		made, payloads = append(made, m), append(payloads, payload)
	}
	p := newProgress(log)
	for i, payload := range payloads {
		if made[i].text, err = sealClaim(f, payload); err != nil {
			return nil, fmt.Errorf("claim of %q: %w", made[i].Name, err)
		}
	}
	if o.from != "" {
		p.done("sign", "%d claims", len(made))
	}
	return made, writeClaims(made)
}

// file is where a claim goes.
func (o *claimOptions) file(name string) string {
	switch {
	case o.from != "" && o.out == "":
		return filepath.Join("claims", name+claimSuffix)
	case o.from != "":
		return filepath.Join(o.out, name+claimSuffix)
	case o.out == "":
		return name + claimSuffix
	}
	return o.out
}

const claimSuffix = ".claim"

// expiry reads "90d" or a day, to the end of it.
func expiry(text string, now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n <= 10*365 {
			return now.UTC().AddDate(0, 0, n).Truncate(time.Second), nil
		}
	}
	day, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("--expires %q: want days, such as 90d, or a day, such as 2027-03-31", text)
	}
	if day = day.AddDate(0, 0, 1).Add(-time.Second); !day.After(now) {
		return time.Time{}, fmt.Errorf("--expires %s: that day is over", text)
	}
	return day, nil
}

func sealClaim(f *keys.Folder, payload []byte) ([]byte, error) {
	signed, err := f.SignMessage(claim.Role, claim.Message(payload))
	if err != nil {
		return nil, err
	}
	var signatures []claim.Signature
	for _, s := range signed {
		signatures = append(signatures, claim.Signature{KeyID: s.KeyID, Sig: s.Sig})
	}
	return claim.Seal(payload, signatures)
}

// writeClaims writes all files, of mode 0600, or leaves none.
func writeClaims(all []madeClaim) (err error) {
	var written []string
	defer func() {
		if err == nil {
			return
		}
		for _, file := range written {
			_ = os.Remove(file)
		}
	}()
	for _, c := range all {
		if err := os.MkdirAll(filepath.Dir(c.File), 0o700); err != nil {
			return fmt.Errorf("write claim: %w", err)
		}
		f, err := os.OpenFile(c.File, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("write claim: %w", err)
		}
		written = append(written, c.File)
		_, err = f.Write(c.text)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("write claim %s: %w", c.File, err)
		}
	}
	return nil
}
