package updater

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/updater/stage"
	"github.com/waysideos/wayside/services/updater/trust"
)

// maxShares is how many boxes are served files of a slot at a time; the
// others are told to come again.
const maxShares = 2

// shareLimit bounds one answer: a slot over a slow link.
const shareLimit = 2 * time.Hour

// share is this box's own copy of the repository, read-only: the metadata it
// believes, and of releases what its two slots hold.
func (u *Updater) share() http.Handler {
	slots := make(chan struct{}, maxShares)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
		w.Header().Set("Content-Type", "application/octet-stream")
		if u.cfg.Site.Share == nil || !*u.cfg.Site.Share {
			http.Error(w, "this box shares nothing: update.share is false", http.StatusForbidden)
			return
		}
		if !strings.Contains(name, "/") {
			data, err := trust.SharedFile(u.cfg.State, name)
			if err != nil {
				http.NotFound(w, r)
				return
			}
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
			return
		}
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			w.Header().Set("Retry-After", "30")
			http.Error(w, "other boxes are being served; come again", http.StatusServiceUnavailable)
			return
		}
		u.shareSlot(w, r, name)
	})
}

// shareSlot answers targets/BOARD/VERSION/FILE from the slot that holds it.
func (u *Updater) shareSlot(w http.ResponseWriter, r *http.Request, name string) {
	parts := strings.Split(name, "/")
	if len(parts) != 4 || parts[0] != "targets" || u.cfg.Init == nil {
		http.NotFound(w, r)
		return
	}
	slots, err := u.cfg.Init.Slots(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(shareLimit))
	for _, s := range []manifest.Slot{slots.Running, slots.Other} {
		if content, done := u.slotFile(s, parts[1], parts[2], parts[3]); content != nil {
			defer done.Close()
			http.ServeContent(w, r, "", time.Time{}, content)
			return
		}
	}
	http.NotFound(w, r)
}

// slotFile opens a file of a release if the slot holds it whole: its staged
// header says that it once was written and verified.
func (u *Updater) slotFile(s manifest.Slot, board, version, file string) (io.ReadSeeker, io.Closer) {
	slot, err := stage.ReadSlot(u.cfg.Dev, node(s))
	if err != nil {
		return nil, nil
	}
	h, err := slot.Header()
	t, terr := u.ofBoard(board, version)
	if err = errors.Join(err, terr); err == nil && h.Version == version && hex.EncodeToString(h.RootHash[:]) == t.RootHash {
		switch file {
		case rootRaw:
			return io.NewSectionReader(slot, 0, stage.ContentBytes(t)), slot
		case hex.EncodeToString(h.SHA256[:]) + "." + release.TargetUKI:
			return slot.Kernel(h), slot
		}
	}
	slot.Close()
	return nil, nil
}

// ofBoard is the release as the kept metadata has it.
func (u *Updater) ofBoard(board, version string) (release.Target, error) {
	c, err := trust.Stored(trust.Config{FS: u.cfg.State, Root: u.cfg.Root, Log: u.log}) // at time zero: what has expired is judged by who fetches
	if err != nil {
		return release.Target{}, err
	}
	for _, t := range c.Releases {
		if t.Board == board && t.Version == version {
			return t, nil
		}
	}
	return release.Target{}, errors.New("no such release")
}
