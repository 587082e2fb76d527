package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/waysideos/wayside/boards"
	"github.com/waysideos/wayside/image"
)

// imagerList is a repository of Raspberry Pi Imager ("os_list", its JSON
// schema is doc/json-schema of github.com/raspberrypi/rpi-imager).
type imagerList struct {
	OS []imagerEntry `json:"os_list"`
}

type imagerEntry struct {
	Name           string   `json:"name"`
	Description    string   `json:"description"`
	Icon           string   `json:"icon"` // may be ""; the schema wants it
	URL            string   `json:"url"`
	ExtractSize    int64    `json:"extract_size"`
	ExtractSHA256  string   `json:"extract_sha256"`
	DownloadSize   int64    `json:"image_download_size"`
	DownloadSHA256 string   `json:"image_download_sha256"`
	ReleaseDate    string   `json:"release_date"` // YYYY-MM-DD
	InitFormat     string   `json:"init_format"`  // the site profile does what Imager's settings do
	Devices        []string `json:"devices,omitempty"`
}

// writeImager lists compressed images, which will be below the URL, in a file.
func (o *publishOptions) writeImager(ctx context.Context, images []string, log io.Writer) error {
	base, err := url.Parse(o.url)
	if err != nil || base.Host == "" {
		return fmt.Errorf("--url %q: want the address of the folder that the images will be in", o.url)
	}
	list := imagerList{OS: []imagerEntry{}}
	p := newProgress(log)
	for _, img := range images {
		e, err := o.imagerEntry(ctx, img, base)
		if err != nil {
			return err
		}
		list.OS = append(list.OS, e)
		p.done("verify", "%s", e.Name)
	}
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.imager, append(text, '\n'), 0o644)
}

func (o *publishOptions) imagerEntry(ctx context.Context, img string, base *url.URL) (e imagerEntry, err error) {
	if !strings.HasSuffix(img, image.PackedSuffix) {
		return e, fmt.Errorf("%s: want a compressed image, NAME.img.zst; wayside build --compress makes one", img)
	}
	s, err := openImage(ctx, img, (&flashOptions{keys: o.keys.dir}).check(img))
	if err != nil {
		return e, err
	}
	defer s.Close()
	e = imagerEntry{
		Name:        "Wayside " + s.release.Version + " for " + s.release.Board,
		Description: "Kafka at the edge",
		Icon:        o.icon, URL: base.JoinPath(filepath.Base(img)).String(), ExtractSize: s.size,
		ReleaseDate: time.Unix(s.release.Epoch, 0).UTC().Format(time.DateOnly), InitFormat: "none",
	}
	if board, err := boards.Get(s.release.Board); err == nil {
		e.Description, e.Devices = board.Description, board.Imager
	}
	if e.ExtractSHA256, err = digestOf(io.NewSectionReader(s.file, 0, s.size)); err != nil {
		return e, err
	}
	packed, err := os.Open(img)
	if err != nil {
		return e, err
	}
	defer packed.Close()
	if e.DownloadSize, err = imageSize(packed); err != nil {
		return e, err
	}
	e.DownloadSHA256, err = digestOf(io.NewSectionReader(packed, 0, e.DownloadSize))
	return e, err
}

func digestOf(r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
