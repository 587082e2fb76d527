package updater

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/services/updater/gate"
	"github.com/waysideos/wayside/services/updater/stage"
	"github.com/waysideos/wayside/services/vfs"
)

// What the updater remembers over restarts; docs/formats/updater-state.md.
const (
	stateFile    = "state.json"
	stateVersion = 1
	maxState     = 1 << 20 // bytes
)

// state is what stateFile holds. Losing it costs a download, and a baseline
// that the gate would have compared with; nothing of it is trusted.
type state struct {
	Version  int            `json:"version"` // of this format
	Progress stage.Progress `json:"progress"`
	// Prepared is the release of Progress.
	Prepared *release.Target `json:"prepared,omitempty"`
	// Baseline is how things were when Prepared was activated.
	Baseline *gate.Baseline `json:"baseline,omitempty"`
	// Lacking are releases that were staged and turned out to be of no use here.
	Lacking []lacking `json:"lacking,omitempty"`
	// Judged is the failed trial, by its time in Unix ns, that was looked into,
	// Blame the finding and Closed whether that is the last word. WorldRetries
	// is how often the world was blamed in a row.
	Judged       uint64 `json:"judged,omitempty"`
	Blame        string `json:"blame,omitempty"`
	Closed       bool   `json:"closed,omitempty"`
	WorldRetries int    `json:"world_retries,omitempty"`
}

// loadState reads the state. What cannot be read is a new one, and an error
// to be told.
func loadState(fsys vfs.FS) (state, error) {
	fresh := state{Version: stateVersion}
	data, err := vfs.ReadWhole(fsys, stateFile, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, nil
	}
	if err != nil {
		return fresh, fmt.Errorf("read update state: %w", err)
	}
	s, err := decodeState(data)
	if err != nil {
		return fresh, err
	}
	return s, nil
}

func decodeState(data []byte) (state, error) {
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("read update state: %v", err)
	}
	if s.Version != stateVersion {
		return s, fmt.Errorf("read update state: version %d, want %d", s.Version, stateVersion)
	}
	if s.Prepared != nil {
		again, err := json.Marshal(s.Prepared)
		if err != nil {
			return s, fmt.Errorf("read update state: %v", err)
		}
		if *s.Prepared, err = release.DecodeTarget(again); err != nil {
			return s, fmt.Errorf("read update state: %v", err)
		}
	}
	return s, nil
}

func (s state) save(fsys vfs.FS) error {
	data, err := json.Marshal(s)
	if err == nil {
		err = vfs.WriteWhole(fsys, stateFile, data)
	}
	if err != nil {
		return fmt.Errorf("keep update state: %w", err)
	}
	return nil
}
