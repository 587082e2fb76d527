package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/waysideos/wayside/image/flash"
	"github.com/waysideos/wayside/image/layout"
)

// flashOptions is what `wayside flash` is asked for.
type flashOptions struct {
	site, secrets string // of the host
	claim         string // file
	install       string // layout.ESPInstall
	cert          string
	keys          string
	unverified    bool
	force         string
	yes, asJSON   bool
}

func newFlashCmd() *cobra.Command {
	var o flashOptions
	cmd := &cobra.Command{
		Use:   "flash IMAGE [DEVICE]",
		Short: "Write an image to a card, stick or disk, and read it back",
		Long: `Writes an image, NAME.img or NAME.img.zst, to a disk: its signatures are checked
first, only blocks in use are written, what an earlier system left where the
first boot would look is erased, and everything is read back from the medium.
The partition table comes last, so that an interrupted disk starts nowhere.
Profile, secrets and claim go onto the boot partition in the same step; a claim
has to be signed for this image, and to make the profile whole.

Without DEVICE the removable disks are listed. A disk that is not removable, or
in use, is refused; the refusal says the words that --force wants.`,
		Example: `  wayside flash out/wayside-x86-64-uefi-1.4.0.img.zst              which disks are there?
  wayside flash out/wayside-x86-64-uefi-1.4.0.img.zst /dev/sdb --site shop.yaml --secrets shop-secrets/
  wayside flash IMAGE /dev/sdb --site shops.yaml --claim shop-042.claim   one box out of many
  wayside flash --cert db.crt IMAGE /dev/sdb                       a computer without the key folder
  wayside flash IMAGE /dev/sdb --install install.yaml              a stick that installs to the disk inside
  wayside flash --json                                             the disks, for scripts`,
		Args: want("IMAGE and DEVICE, or IMAGE alone to list the disks", cobra.MaximumNArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return o.list(args, cmd.OutOrStdout())
			}
			return o.run(cmd.Context(), args[0], args[1], cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&o.site, "site", "", "put this site profile `FILE` on the boot partition")
	fl.StringVar(&o.secrets, "secrets", "", "put the files of this folder `DIR`, those that the profile names, on the boot partition")
	fl.StringVar(&o.claim, "claim", "", "put the claim `FILE` of wayside claim new on the boot partition: it has to fit image and profile")
	fl.StringVar(&o.install, "install", "", "make an installer: `FILE` says which disk of the box it goes to (docs/flashing.md)")
	fl.StringVar(&o.cert, "cert", "", "`FILE` with the signer's certificate, PEM (default: the one in --keys)")
	fl.BoolVar(&o.unverified, "unverified", false, "write an image whose signatures nobody has checked")
	fl.StringVar(&o.force, "force", "", "overwrite a disk that is refused; `WORDS` are those of the refusal")
	fl.BoolVar(&o.yes, "yes", false, "do not ask")
	fl.BoolVar(&o.asJSON, "json", false, "print the disks, or the result, as JSON")
	addKeysFlag(cmd, &o.keys)
	return cmd
}

// list shows the disks that an image may go to.
func (o *flashOptions) list(args []string, out io.Writer) error {
	if len(args) == 1 {
		if _, err := os.Stat(args[0]); err != nil {
			return fmt.Errorf("open image: %w", err)
		}
	}
	all, err := listDisks()
	if err != nil {
		return err
	}
	removable := []blockDisk{}
	for _, d := range all {
		if d.Removable {
			removable = append(removable, d)
		}
	}
	if o.asJSON {
		return json.NewEncoder(out).Encode(removable)
	}
	if len(removable) == 0 {
		fmt.Fprintln(out, "there is no removable disk: plug a card or stick in, or name the DEVICE of a disk that is built in")
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, d := range removable {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", d.Device, mib(d.Size), d.Model, strings.Join(d.Uses, ", "))
	}
	return w.Flush()
}

// flashed is what the command prints as JSON.
type flashed struct {
	Device  string   `json:"device"`
	Board   string   `json:"board"`
	Version string   `json:"version"`
	Written int64    `json:"written_bytes"`
	Added   []string `json:"added,omitempty"` // files put on the boot partition
	Claim   string   `json:"claim,omitempty"` // name of the box whose claim it holds
	State   string   `json:"state"`
	Seconds float64  `json:"seconds"`
}

func (o *flashOptions) run(ctx context.Context, img, device string, in io.Reader, out, log io.Writer) error {
	if st, err := os.Stat(img); err == nil && st.Mode()&os.ModeDevice != 0 {
		return fmt.Errorf("%s is a disk: the IMAGE comes first, then the DEVICE", img)
	}
	d, err := findDisk(device)
	if err != nil {
		return err
	}
	p := newProgress(log)
	src, err := o.open(ctx, img, p)
	if err != nil {
		return err
	}
	defer src.Close()
	if err := d.judge(src.size, o.force); err != nil {
		return err
	}
	if d.Size < layout.MinDisk {
		fmt.Fprintf(log, "%s has %s: too little for a second slot; the box will run, but take no updates\n", d.Device, mib(d.Size))
	}
	if err := o.ask(d, in, log); err != nil {
		return err
	}
	// Checking and asking took a while: the name may be another disk's by now.
	if now, err := findDisk(device); err != nil || now.words() != d.words() {
		return fmt.Errorf("%s is not what it was when you were asked (%s): nothing was written", d.Device, d.what())
	}
	target, err := d.open()
	if err != nil {
		return err
	}
	defer target.Close()
	line := newFlashLine(log)
	job := flash.Job{Source: src.file, Ranges: src.used, Erase: src.stale(d.Size), Progress: line.update}
	state, err := job.Run(ctx, target)
	line.end()
	if err != nil {
		return fmt.Errorf("%s: %w; %s", d.Device, friendly(err), state)
	}
	target.announce()
	p.done("write", "%s of %s, and read back", mib(flash.Total(src.used)), mib(src.size))
	res := flashed{
		Device: d.Device, Board: src.release.Board, Version: src.release.Version, Written: flash.Total(src.used),
		Added: src.added, Claim: src.claim, State: string(state), Seconds: p.total().Seconds(),
	}
	if o.asJSON {
		return json.NewEncoder(out).Encode(res)
	}
	whose := ""
	if res.Claim != "" {
		whose = " for " + res.Claim
	}
	fmt.Fprintf(log, "%s holds %s %s%s; it can be taken out\n", d.Device, res.Board, res.Version, whose)
	return nil
}

// friendly says what a person did instead of what a context says.
func friendly(err error) error {
	if errors.Is(err, context.Canceled) {
		return errInterrupted
	}
	return err
}

// ask wants a yes before a disk is overwritten.
func (o *flashOptions) ask(d blockDisk, in io.Reader, log io.Writer) error {
	if o.yes || o.force != "" {
		return nil
	}
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return fmt.Errorf("%s would lose what it holds, and there is nobody to ask: give --yes", d.Device)
	}
	fmt.Fprintf(log, "everything on %s (%s) will be lost; type yes to go on: ", d.Device, d.what())
	var answer string
	if _, err := fmt.Fscanln(f, &answer); err != nil || !strings.EqualFold(answer, "yes") {
		return errors.New("nothing was written")
	}
	return nil
}

// flashLine shows how far a disk is: on one line of a terminal, and a line a
// step elsewhere.
type flashLine struct {
	w        io.Writer
	terminal bool
	step     string
	begun    time.Time
	last     time.Time
}

func newFlashLine(w io.Writer) *flashLine {
	f, ok := w.(*os.File)
	return &flashLine{w: w, terminal: ok && term.IsTerminal(int(f.Fd()))}
}

func (l *flashLine) update(p flash.Progress) {
	now := time.Now()
	if p.Step != l.step {
		l.step, l.begun, l.last = p.Step, now, time.Time{}
		if !l.terminal {
			fmt.Fprintf(l.w, "  %-10s %s\n", p.Step, mib(p.Total))
		}
	}
	if !l.terminal || now.Sub(l.last) < 100*time.Millisecond && p.Done < p.Total {
		return
	}
	l.last = now
	speed := ""
	if s := now.Sub(l.begun).Seconds(); s > 1 {
		speed = fmt.Sprintf(", %s/s", mib(int64(float64(p.Done)/s)))
	}
	fmt.Fprintf(l.w, "\r\x1b[K  %-10s %s of %s%s", p.Step, mib(p.Done), mib(p.Total), speed)
}

// end leaves a clean line behind.
func (l *flashLine) end() {
	if l.terminal && l.step != "" {
		fmt.Fprint(l.w, "\r\x1b[K")
	}
}
