package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/image"
	"github.com/waysideos/wayside/image/attest"
	"github.com/waysideos/wayside/image/publish"
	"github.com/waysideos/wayside/image/release"
)

// publishOptions is what is to be done to a repository.
type publishOptions struct {
	repo, board, notes, notesFile, remove string
	imager, url, icon                     string // a list for Raspberry Pi Imager
	minCounter                            uint64
	patches, keep                         int
	downgrade, list, refresh, asJSON      bool
	bootLoader                            bool
	dropsDrivers                          []string
	keys                                  keyFlags
}

func newPublishCmd() *cobra.Command {
	var o publishOptions
	cmd := &cobra.Command{
		Use:   "publish --repo DIR [IMAGE...]",
		Short: "Put releases where boxes update from",
		Long: `Takes kernel image and root out of verified images and puts them, with signed
metadata (TUF), into a folder that any web server, object store or USB stick
can offer to boxes. Interrupted, the folder shows the old releases or the new
ones, and the same command again finishes the job.

The folder goes stale: what timestamp signs is good for 30 days unless keys.yaml
says otherwise, and --refresh must be run in time, from a timer.`,
		Example: `  wayside publish --repo /srv/wayside out/*.img --notes "MQTT: fewer wakeups"
  wayside publish --repo /srv/wayside --patches 3 --keep 10 out/*.img
  wayside publish --repo /srv/wayside --drops-driver e1000 --notes "no driver for the old service card" out/*.img
  wayside publish --repo /srv/wayside --list
  wayside publish --repo /srv/wayside --refresh
  wayside publish --repo /srv/wayside --remove 1.4.0
  wayside publish --imager os_list.json --url https://example.com/images out/*.img.zst   for Raspberry Pi Imager`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd, args); err != nil {
				return err
			}
			if o.imager != "" {
				return o.writeImager(cmd.Context(), args, cmd.ErrOrStderr())
			}
			return o.run(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&o.repo, "repo", "", "folder `DIR` of the repository")
	fl.StringVar(&o.board, "board", "", "refuse images for another `BOARD`; with --remove, that board's release only")
	fl.StringVar(&o.notes, "notes", "", "`TEXT` that tells the owner of a box what changed")
	fl.StringVar(&o.notesFile, "notes-file", "", "`FILE` with that text")
	fl.Uint64Var(&o.minCounter, "min-counter", 0, "counter `N` of the oldest release that this may be installed from")
	fl.IntVar(&o.patches, "patches", 10, "make patches from so many releases before, which spare boxes most of a download; 0 for none")
	fl.IntVar(&o.keep, "keep", 30, "offer so many releases of a board, the newest, and those that boxes far behind need on their way; 0 for all")
	fl.BoolVar(&o.bootLoader, "boot-loader", false, "have boxes that keep this release install its boot loader as well")
	fl.StringSliceVar(&o.dropsDrivers, "drops-driver", nil, "let boxes take this release although it has no longer this `MODULE`, by which they drive a device; may be repeated")
	fl.BoolVar(&o.downgrade, "downgrade", false, "permit boxes to go back to this release from one with a higher counter")
	fl.BoolVar(&o.list, "list", false, "list what is published, and until when it is good")
	fl.BoolVar(&o.refresh, "refresh", false, "sign again what is about to expire, and publish new update roots")
	fl.StringVar(&o.remove, "remove", "", "take the release of this `VERSION` back")
	fl.StringVar(&o.imager, "imager", "", "write a list of compressed images for Raspberry Pi Imager to `FILE`; needs no --repo")
	fl.StringVar(&o.url, "url", "", "with --imager: `URL` of the folder that the images will be in")
	fl.StringVar(&o.icon, "icon", "", "with --imager: `URL` of a picture")
	fl.BoolVar(&o.asJSON, "json", false, "print the result as JSON")
	o.keys.add(cmd)
	completeBoards(cmd)
	return cmd
}

// check wants one thing to do.
func (o *publishOptions) check(cmd *cobra.Command, images []string) error {
	if o.imager != "" && len(images) == 0 {
		return usageError(cmd, errors.New("--imager wants IMAGEs"))
	} else if o.imager != "" {
		return nil
	}
	if o.repo == "" {
		return usageError(cmd, errors.New("want --repo DIR"))
	}
	if o.patches < 0 || o.keep < 0 {
		return usageError(cmd, errors.New("--patches and --keep want 0 or more"))
	}
	things := 0
	for _, asked := range []bool{len(images) > 0, o.list, o.refresh, o.remove != ""} {
		if asked {
			things++
		}
	}
	if things != 1 {
		return usageError(cmd, errors.New("want either IMAGEs, --list, --refresh or --remove VERSION"))
	}
	if len(images) == 0 { // a mistyped folder is no new repository
		if _, err := os.Stat(o.repo); err != nil {
			return fmt.Errorf("open repository: %w", err)
		}
	}
	for _, img := range images {
		if _, err := os.Stat(img); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	}
	if o.notesFile != "" {
		text, err := os.ReadFile(o.notesFile)
		if err != nil {
			return fmt.Errorf("read notes: %w", err)
		}
		o.notes = string(text)
	}
	return nil
}

// published is what the command prints as JSON.
type published struct {
	Added    []string             `json:"added,omitempty"` // BOARD VERSION
	Same     []string             `json:"already_published,omitempty"`
	Removed  string               `json:"removed,omitempty"`
	Expired  []string             `json:"expired,omitempty"` // BOARD VERSION, by --keep
	Expires  map[string]time.Time `json:"expires"`           // by role
	Releases []publish.Entry      `json:"releases"`
}

func (o *publishOptions) run(ctx context.Context, images []string, out, log io.Writer) error {
	folder, err := o.keys.open()
	if err != nil {
		return err
	}
	pack := func(ctx context.Context, rel publish.Release, index, pack io.Writer) (int64, error) {
		fmt.Fprintf(log, "  packing    %s %s, for a minute or two\n", rel.Target.Board, rel.Target.Version)
		return publish.Delta(ctx, rel, index, pack)
	}
	repo, err := publish.Open(o.repo, folder, pack, time.Now())
	if err != nil {
		return err
	}
	defer repo.Close()
	var res published
	p := newProgress(log)
	repo.WithPatches(o.patches, func(format string, args ...any) { p.done("patch", format, args...) })
	for _, img := range images {
		if err := o.add(ctx, repo, img, &res, p); err != nil {
			return err
		}
	}
	expired, err := repo.Tidy(o.keep)
	if err != nil {
		return err
	}
	for _, e := range expired {
		res.Expired = append(res.Expired, e.Board+" "+e.Version)
	}
	if o.remove != "" {
		if err := repo.Remove(o.remove, o.board); err != nil {
			return err
		}
		res.Removed = o.remove
	}
	if len(res.Added) > 0 || o.remove != "" || o.refresh {
		if err := repo.Commit(); err != nil {
			return err
		}
		p.done("sign", "%s", o.repo)
	}
	if res.Releases, err = repo.Releases(); err != nil {
		return err
	}
	res.Expires = repo.Expiries()
	if o.asJSON {
		return json.NewEncoder(out).Encode(res)
	}
	return res.print(out)
}

// add verifies an image and hands it to the repository.
func (o *publishOptions) add(ctx context.Context, repo *publish.Repo, img string, res *published, p *progress) error {
	folder, err := o.keys.open()
	if err != nil {
		return err
	}
	certs, err := folder.Certs("db")
	if err != nil {
		return fmt.Errorf("read the certificate that images are verified by: %w", err)
	}
	f, err := os.Open(img)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := imageSize(f)
	if err != nil {
		return fmt.Errorf("publish %s: %v", img, err)
	}
	if err := image.Verify(f, size, certs...); err != nil {
		return fmt.Errorf("publish %s: it is refused: %w", img, err)
	}
	c, err := image.Open(f, size)
	if err != nil {
		return fmt.Errorf("publish %s: %w", img, err)
	}
	if o.board != "" && c.Release.Board != o.board {
		return fmt.Errorf("publish %s: it is for board %s, not %s", img, c.Release.Board, o.board)
	}
	p.done("verify", "%s %s, counter %d", c.Release.Board, c.Release.Version, c.Release.Counter)
	rel := o.release(c)
	if data, err := os.ReadFile(image.Beside(img, image.ProvenanceSuffix)); err == nil && speaksOf(data, c) {
		rel.Provenance = data
	}
	added, err := repo.Add(ctx, rel)
	if err != nil {
		return err
	}
	name := c.Release.Board + " " + c.Release.Version
	if !added {
		res.Same = append(res.Same, name)
		return nil
	}
	res.Added = append(res.Added, name)
	p.done("pack", "%s", name)
	return nil
}

func (o *publishOptions) release(c *image.Contents) publish.Release {
	return publish.Release{
		Target: release.Target{
			Format: release.TargetFormat, Kind: release.KindRelease,
			Board: c.Release.Board, Arch: c.Release.Arch, Version: c.Release.Version, Counter: c.Release.Counter,
			MinCounter: o.minCounter, Downgrade: o.downgrade, BootLoader: o.bootLoader, DropsDrivers: o.dropsDrivers, Notes: o.notes,
			RootHash: hex.EncodeToString(c.RootHash), DataBlocks: c.DataBlocks, RootBytes: c.RootBytes, UKIBytes: int64(len(c.UKI)),
		},
		UKI: c.UKI, Root: c.Root, UpdateRoot: c.UpdateRoot, SBOM: c.SBOM, Provenance: c.Provenance,
	}
}

// speaksOf tells whether the statement beside an image is of its kernel image.
// That is the better one to publish; the one inside speaks of the programs.
func speaksOf(envelope []byte, c *image.Contents) bool {
	statement, err := attest.Payload(envelope)
	if err != nil {
		return false
	}
	subjects, err := attest.Subjects(statement)
	sum := sha256.Sum256(c.UKI)
	return err == nil && slices.ContainsFunc(subjects, func(s attest.Subject) bool { return s.Hex == hex.EncodeToString(sum[:]) })
}

func (r published) print(out io.Writer) error {
	for _, name := range r.Same {
		fmt.Fprintf(out, "%s is published already\n", name)
	}
	for _, name := range r.Added {
		fmt.Fprintf(out, "%s is published\n", name)
	}
	for _, name := range r.Expired {
		fmt.Fprintf(out, "%s is offered no longer, there are enough newer ones; boxes that run it keep it\n", name)
	}
	if r.Removed != "" {
		fmt.Fprintf(out, "%s is taken back\n", r.Removed)
	}
	for _, e := range r.Releases {
		fmt.Fprintf(out, "  %-16s %-20s counter %-12d %s to download in full\n", e.Board, e.Version, e.Counter, mib(e.PackBytes))
	}
	if len(r.Releases) == 0 {
		fmt.Fprintln(out, "nothing is published")
	}
	for _, role := range []string{"timestamp", "snapshot", "targets", "root"} {
		if at, ok := r.Expires[role]; ok {
			fmt.Fprintf(out, "  %-16s expires %s\n", role, at.UTC().Format(time.DateTime))
		}
	}
	return nil
}
