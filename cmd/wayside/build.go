package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/image"
	"github.com/waysideos/wayside/qemu"
)

// defaultVersion is the release version of an image that names no other.
const defaultVersion = "0.1.0-dev"

// buildOptions is what a build is asked for.
type buildOptions struct {
	board, site, source, out, version string
	epoch                             int64 // Unix seconds; 0: the lock's date
	counter                           uint64
	sourceURI, sourceCommit           string // of Wayside's source, for the provenance
	keys                              keyFlags
	archive                           archiveFlags
	enrol                             enrolFlags
	encryption                        string
	modules                           []string // beside the board's
	overlays                          []string // folders
	compress                          bool
}

func (o *buildOptions) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&o.board, "board", "qemu-x86_64", "`BOARD` to build for")
	fl.StringVar(&o.site, "site", "", "site profile `FILE` put on the boot partition (default: none, the box has built-in defaults)")
	fl.StringVar(&o.source, "source", "", "Wayside's source folder `DIR` (default: the module of this folder)")
	fl.StringVar(&o.version, "version", defaultVersion, "release `VERSION`")
	fl.Int64Var(&o.epoch, "epoch", 0, "build epoch in Unix `SECONDS`: every time stamp in the image, and the earliest time the box trusts (default: the date of the locked archive)")
	fl.StringVar(&o.sourceURI, "source-uri", "https://github.com/waysideos/wayside", "`URI` of the source's repository, as the provenance shall name it")
	fl.StringVar(&o.sourceCommit, "source-commit", "", "git `COMMIT` of the source, for the provenance (default: it names none)")
	fl.Uint64Var(&o.counter, "counter", 0, "release counter `N`: what makes one release newer than another to a box (default: the build epoch)")
	fl.StringSliceVar(&o.modules, "module", nil, "kernel `MODULE`, folder or modalias to put into the root beside the board's")
	fl.StringSliceVar(&o.overlays, "overlay", nil, "folder `DIR` with rootfs/ and overlay.yaml to lay over the root, as those in overlays/")
	o.keys.add(cmd)
	o.archive.add(cmd)
	o.enrol.add(cmd)
	fl.StringVar(&o.encryption, "encryption", "off", "`HOW` boxes keep state and data: off, or tpm (made encrypted at the first boot, with Secure Boot on and the key sealed to the TPM)")
	complete(cmd, "encryption", "off", "tpm")
	completeBoards(cmd)
}

func newBuildCmd() *cobra.Command {
	var o buildOptions
	var explain, asJSON, all bool
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Build a signed disk image from a board and a site profile",
		Long: `Builds a disk image: Debian kernel and boot loader from the lock file, our init
and services compiled from this source, everything else written in Go, as an
ordinary user. Equal inputs give equal bytes.`,
		Example: `  wayside build --site examples/shop.yaml -o out/
  wayside build --board x86-64-uefi --site shop.yaml --version 1.4.0 -o out/
  wayside build --enroll-keys --board x86-64-uefi -o out/    the boot menu offers to enrol our keys
  wayside build --all -o out/               every board, several at a time
  wayside build --compress --version 1.4.0 -o out/           also .img.zst, signed, for wayside flash and others
  wayside build --explain`,
		Args: flagsOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if explain {
				return explainImage(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
			results := make([]built, 1)
			var err error
			if all {
				results, err = buildAll(cmd.Context(), o, cmd.ErrOrStderr())
			} else {
				results[0], err = buildImage(cmd.Context(), o, cmd.ErrOrStderr())
			}
			if err != nil || !asJSON {
				return err
			}
			return printBuilt(cmd.OutOrStdout(), results...)
		},
	}
	o.add(cmd)
	cmd.Flags().StringVarP(&o.out, "out", "o", "out", "folder `DIR` the image is written to")
	cmd.Flags().BoolVar(&all, "all", false, "build the images of all boards")
	cmd.Flags().BoolVar(&o.compress, "compress", false, "also write the image compressed, with block map, checksums and their signature (docs/flashing.md)")
	cmd.Flags().BoolVar(&explain, "explain", false, "print what would be built, and build nothing")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON on standard output, one object a line")
	cmd.MarkFlagsMutuallyExclusive("all", "board")
	cmd.MarkFlagsMutuallyExclusive("all", "explain")
	return cmd
}

// built is a finished image and what QEMU boots it with.
type built struct {
	image.Result
	Board    string         `json:"board"`
	Packed   *image.Packed  `json:"packed,omitempty"`
	Firmware *qemu.Firmware `json:"firmware,omitempty"` // files on this machine
	Seconds  float64        `json:"seconds"`
}

// buildImage builds an image into o.out and tells log of its progress.
func buildImage(ctx context.Context, o buildOptions, log io.Writer) (built, error) {
	if err := checkOut(o.out); err != nil {
		return built{}, err
	}
	p := newProgress(log)
	fmt.Fprintf(log, "building %s for %s\n", o.version, o.board)
	b, firmware, cleanup, err := prepare(ctx, o, p)
	defer cleanup()
	if err != nil {
		return built{}, err
	}
	b.Progress = func(e image.Event) {
		if e.Done {
			p.done(e.Step, "%s", e.Detail)
		}
	}
	res, err := b.Build(ctx, o.out)
	if err != nil {
		return built{}, err
	}
	var packed *image.Packed
	if o.compress {
		pack, err := image.Pack(ctx, res.Path, b.Input.Keys)
		if err != nil {
			return built{}, err
		}
		packed = &pack
		p.done("compress", "%s, %s", pack.Path, mib(pack.Size))
	}
	seconds := p.total().Seconds()
	fmt.Fprintf(log, "%s: %s, %s stored, built in %.1f s\n", res.Path, mib(res.Size), mib(res.Stored), seconds)
	return built{Result: res, Board: b.Input.Board.Slug, Packed: packed, Firmware: firmware, Seconds: seconds}, nil
}

// checkOut makes the folder for the image and tries to write in it: the first
// build takes minutes, and the image comes last.
func checkOut(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the folder for the image: %v; give -o DIR", err)
	}
	f, err := os.CreateTemp(dir, ".wayside-")
	if err != nil {
		return fmt.Errorf("write to the folder for the image: %v; give -o DIR", err)
	}
	f.Close()
	return os.Remove(f.Name())
}

func explainImage(ctx context.Context, o buildOptions, out, log io.Writer) error {
	b, _, cleanup, err := prepare(ctx, o, newProgress(log))
	defer cleanup()
	if err != nil {
		return err
	}
	return b.Explain(ctx, out)
}
