package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

// siteFlags are those of the commands that ask a box.
type siteFlags struct {
	boxFlags
	asJSON, noWait bool
}

func (f *siteFlags) bind(cmd *cobra.Command, waits bool) {
	f.boxFlags.bind(cmd)
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print what the box says of its profile, or what is wrong with this one, as JSON")
	if waits {
		cmd.Flags().BoolVar(&f.noWait, "no-wait", false, "return as soon as the profile is on trial; one that changes the network is kept only if wayside site status asks for it then")
	}
}

func newSiteApplyCmd() *cobra.Command {
	var f siteFlags
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Have a running box go by another site profile",
		Long: `apply gives a site profile to a box that runs. The box checks it as site check
does and goes by it at once, on trial: device connectors follow, the services
whose part has changed are started anew, addresses change. When all does as
before, the box keeps it; otherwise, and after five minutes at the latest, and
after any restart, the one before is in force again. A profile on the boot
partition counts again only when it is changed after this.

Where the network changes, the box also waits until it is asked from outside,
as this command does. If its address changes, ask it at the new one meanwhile:
wayside site status --box NEW.`,
		Example: `  wayside site apply shop.yaml --box 192.0.2.10 --token-file api.token
  wayside site apply shop.yaml --box 192.0.2.10 --token-file api.token --json`,
		Args: want("one FILE", cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, files []string) error {
			text, err := os.ReadFile(files[0])
			if err != nil {
				return err
			}
			if len(text) > site.MaxSize {
				return fmt.Errorf("%s has %d bytes, the most is %d", files[0], len(text), site.MaxSize)
			}
			return f.change(cmd, url.Values{"file": {files[0]}}, text)
		},
	}
	f.bind(cmd, true)
	return cmd
}

func newSiteBackCmd() *cobra.Command {
	var f siteFlags
	cmd := &cobra.Command{
		Use:     "back",
		Short:   "Have a box go by the profile that it had before the last apply",
		Long:    "back applies the profile that was in force before the one applied last, on trial like any other.",
		Example: "  wayside site back --box 192.0.2.10 --token-file api.token",
		Args:    flagsOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.change(cmd, url.Values{"back": {"true"}}, nil)
		},
	}
	f.bind(cmd, true)
	return cmd
}

func newSiteStatusCmd() *cobra.Command {
	var f siteFlags
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show which profile a box goes by, and how the last change went",
		Example: "  wayside site status --box 192.0.2.10",
		Args:    flagsOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := f.open(false)
			if err != nil {
				return err
			}
			var p manifest.Profile
			if err := b.get(cmd.Context(), "/site", &p); err != nil {
				return err
			}
			return f.print(cmd.OutOrStdout(), p)
		},
	}
	f.bind(cmd, false)
	return cmd
}

// change posts a profile and waits for what becomes of it.
func (f *siteFlags) change(cmd *cobra.Command, query url.Values, text []byte) error {
	b, err := f.open(true)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	var p manifest.Profile
	err = patiently(cmd.ErrOrStderr(), b, func() error {
		return b.send(ctx, http.MethodPost, "/site?"+query.Encode(), text, &p)
	})
	var wrong site.Errors
	if errors.As(err, &wrong) {
		if f.asJSON {
			_ = printJSON(cmd.OutOrStdout(), wrong)
		} else {
			fmt.Fprintln(cmd.ErrOrStderr(), wrong)
		}
		return exitCode(1)
	}
	digest := ""
	if text != nil {
		sum := sha256.Sum256(text)
		digest = hex.EncodeToString(sum[:])
	}
	if errors.Is(err, errAsk) && digest != "" && !neverSent(err) {
		err = lostAnswer(ctx, b, digest, &p)
	}
	if err == nil && !f.noWait {
		err = watchSite(ctx, b, cmd.ErrOrStderr(), &p)
	}
	if err != nil {
		return err
	}
	if err := f.print(cmd.OutOrStdout(), p); err != nil {
		return err
	}
	if p.Change != nil && p.Change.State == manifest.ProfileBack {
		return exitCode(1)
	}
	return nil
}

// patiently says so when the answer to do takes long. It may never come: the
// profile may have given the box another address.
func patiently(progress io.Writer, b *boxClient, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-time.After(siteAsk):
		sayOtherAddress(progress, b)
		return <-done
	}
}

func sayOtherAddress(progress io.Writer, b *boxClient) {
	fmt.Fprintf(progress, "the box does not answer at %s; if its address is another now: wayside site status --box NEW\n", b.base)
}

// neverSent says that no connection was made.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// lostAnswer finds out what has become of a profile whose answer did not come:
// the page itself may be started anew, and take the answer with it.
func lostAnswer(ctx context.Context, b *boxClient, digest string, p *manifest.Profile) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); ; {
		err := askSite(ctx, b, p)
		switch {
		case err == nil && (p.Change == nil || p.Change.Digest != digest):
			return errors.New("the box did not answer, and does not go by this profile: try again")
		case err == nil:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("what has become of the profile is not known: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// siteAsk is how long an answer may take until the box is said to be silent.
const siteAsk = 10 * time.Second

// askSite asks once. A connection to an address that is gone would only hang.
func askSite(ctx context.Context, b *boxClient, p *manifest.Profile) error {
	ctx, cancel := context.WithTimeout(ctx, siteAsk)
	defer cancel()
	*p = manifest.Profile{}
	return b.get(ctx, "/site", p)
}

// watchSite asks until the trial is over. That the box is silent for a while is
// no wonder: its page may be started anew, its address be another.
func watchSite(ctx context.Context, b *boxClient, progress io.Writer, p *manifest.Profile) error {
	if p.Change == nil {
		return errors.New("the box says nothing of the change")
	}
	digest := p.Change.Digest
	end := time.Now().Add(time.Duration(p.Change.Remaining*float64(time.Second)) + time.Minute)
	fmt.Fprintln(progress, "on trial: "+changeText(p.Change))
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	silent := false
	for p.Change.State == manifest.ProfileTrial {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		var now manifest.Profile
		err := askSite(ctx, b, &now)
		switch {
		case err != nil && time.Now().After(end):
			return fmt.Errorf("what has become of the profile is not known: %w", err)
		case err != nil:
			if !silent {
				sayOtherAddress(progress, b)
			}
			silent = true
		case now.Change == nil:
			return fmt.Errorf("the box was restarted meanwhile and goes by the profile of site %s (%s)", now.Site, now.Source)
		case now.Change.Digest != digest:
			return errors.New("somebody else has applied another profile meanwhile")
		default:
			silent, *p = false, now
		}
	}
	return nil
}

func (f *siteFlags) print(out io.Writer, p manifest.Profile) error {
	if f.asJSON {
		return printJSON(out, p)
	}
	line := func(name, text string) { fmt.Fprintf(out, "%-10s %s\n", name, text) }
	line("site", p.Site)
	line("profile", p.Source)
	for _, e := range p.Errors {
		line("refused", e)
	}
	if c := p.Change; c != nil {
		line("change", c.State+", "+c.Time.UTC().Format(time.RFC3339)+": "+changeText(c))
		if c.State == manifest.ProfileTrial {
			line("", fmt.Sprintf("%.0f s are left to prove itself", c.Remaining))
		}
		if c.Reason != "" {
			line("reason", c.Reason)
		}
	}
	return nil
}

// changeText says what a change has meant.
func changeText(c *manifest.ProfileChange) string {
	said := []string{"site " + c.Site}
	if len(c.Services) > 0 {
		said = append(said, "started anew: "+strings.Join(c.Services, ", "))
	}
	if c.Network {
		said = append(said, "the network changes")
	}
	if len(c.NextStart) > 0 {
		said = append(said, "only from the next start on: "+strings.Join(c.NextStart, ", "))
	}
	return strings.Join(said, "; ")
}
