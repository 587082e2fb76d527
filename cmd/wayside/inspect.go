package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/image"
	"github.com/waysideos/wayside/image/attest"
	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/keys"
)

type inspectOptions struct {
	verify, asJSON, sbom, provenance bool
	cert, keys                       string
}

func newInspectCmd() *cobra.Command {
	var o inspectOptions
	cmd := &cobra.Command{
		Use:   "inspect IMAGE...",
		Short: "Show what an image holds, from the image alone",
		Long: `Prints partitions, versions, hashes, signatures and packages of any image, or of
a card or disk that one was written to and that no box has started from yet. With
--verify it also reads every byte that is signed or hashed and refuses an image
of which boot loader, kernel image or root was altered.`,
		Example: `  wayside inspect out/wayside-qemu-x86_64-0.1.0-dev.img
  wayside inspect --verify --cert db.crt out/*.img
  wayside inspect --verify /dev/sdb
  wayside inspect --json out/*.img | jq .partitions
  wayside inspect --sbom --json IMAGE > image.spdx.json
  wayside inspect --provenance IMAGE`,
		Args: want("one IMAGE or more", cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, images []string) error {
			certs, err := trusted(o.cert, o.keys, o.verify)
			if err != nil {
				return err
			}
			var errs []error
			for _, name := range images {
				if len(images) > 1 && !o.asJSON {
					fmt.Fprintf(cmd.OutOrStdout(), "image        %s\n", name)
				}
				errs = append(errs, o.inspect(cmd, name, certs))
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().BoolVar(&o.verify, "verify", false, "refuse an image that was altered or is signed by another key")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print the report as JSON, one object a line")
	cmd.Flags().BoolVar(&o.sbom, "sbom", false, "print what the image is made of; with --json the SPDX document itself")
	cmd.Flags().BoolVar(&o.provenance, "provenance", false, "print how it was made, an in-toto statement; with --json the signed envelope itself")
	cmd.MarkFlagsMutuallyExclusive("sbom", "provenance")
	cmd.Flags().StringVar(&o.cert, "cert", "", "`FILE` with the signer's certificate, PEM (default: the one in --keys)")
	addKeysFlag(cmd, &o.keys)
	return cmd
}

// inspect prints what one image holds, and verifies it if that is asked for.
func (o inspectOptions) inspect(cmd *cobra.Command, name string, certs []*x509.Certificate) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("inspect: %w", err)
	}
	defer f.Close()
	size, err := imageSize(f)
	if err != nil {
		return fmt.Errorf("inspect %s: %v", name, err)
	}
	if st, err := f.Stat(); err == nil && st.Mode()&fs.ModeDevice != 0 {
		size = disk.MadeFor(f, size)
	}
	report, err := image.Inspect(f, size, certs...)
	if err != nil {
		return fmt.Errorf("inspect %s: %w", name, err)
	}
	switch {
	case o.sbom || o.provenance:
		err = printAttested(cmd.OutOrStdout(), report, o.sbom, o.asJSON)
	case o.asJSON:
		err = json.NewEncoder(cmd.OutOrStdout()).Encode(report)
	default:
		err = report.Print(cmd.OutOrStdout())
	}
	if err != nil || !o.verify {
		return err
	}
	if err := image.Verify(f, size, certs...); err != nil {
		return fmt.Errorf("%s is refused: %w", name, err)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s: verified\n", name)
	return nil
}

// printAttested prints the SBOM or the provenance in an image's root.
func printAttested(out io.Writer, r *image.Report, sbom, raw bool) error {
	data, what := r.Envelope(), "provenance"
	if sbom {
		data, what = r.SBOM(), "SBOM"
	}
	if data == nil {
		return fmt.Errorf("the image holds no %s", what)
	}
	if raw {
		_, err := out.Write(data)
		return err
	}
	if sbom {
		return printSBOM(out, data)
	}
	statement, err := attest.Payload(data)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := json.Indent(&text, statement, "", "  "); err != nil {
		return fmt.Errorf("read provenance: %v", err)
	}
	_, err = fmt.Fprintf(out, "%s\n", text.Bytes())
	return err
}

func printSBOM(out io.Writer, data []byte) error {
	parts, err := attest.ReadSPDX(data)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, c := range parts {
		fmt.Fprintf(w, "%s\t%s\t%s\n", c.Name, c.Version, c.SHA256)
	}
	return w.Flush()
}

// imageSize is the size of an image in a file or on a disk, which stat(2)
// calls empty.
func imageSize(f *os.File) (int64, error) {
	if st, err := f.Stat(); err != nil {
		return 0, err
	} else if st.IsDir() {
		return 0, errors.New("it is a folder")
	}
	return f.Seek(0, io.SeekEnd)
}

// trusted returns the certificates that signatures are checked against: the
// one given, or those of the key folder, retired ones too. Without any, an
// image can be looked at but not verified.
func trusted(cert, dir string, needed bool) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	var err error
	if cert != "" {
		var c *x509.Certificate
		c, err = keys.LoadCert(cert)
		certs, needed = []*x509.Certificate{c}, true
	} else {
		var f *keys.Folder
		if f, err = (&keyFlags{dir: dir}).open(); err == nil {
			certs, err = f.Certs("db")
		}
	}
	if errors.Is(err, fs.ErrNotExist) && !needed {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the signer's certificate: %w; give --cert FILE", err)
	}
	return certs, nil
}
