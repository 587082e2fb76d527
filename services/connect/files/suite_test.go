package files_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/services/connect/files"
	"github.com/waysideos/wayside/services/site"
)

// writer is a program that appends lines to a file. Its disk is elsewhere
// while it is stopped.
type writer struct {
	t              *testing.T
	folder, hidden string
}

func (w *writer) Start() { w.rename(w.hidden, w.folder) }
func (w *writer) Stop()  { w.rename(w.folder, w.hidden) }

func (w *writer) rename(from, to string) {
	if err := os.Rename(from, to); err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
}

func (w *writer) Emit(value int64) error { return w.line(fmt.Sprintf(`{"value":%d}`, value)) }

func (w *writer) line(text string) error {
	for _, dir := range []string{w.folder, w.hidden} {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = fmt.Fprintln(f, text)
		return err
	}
	return os.ErrNotExist
}

func (w *writer) Do(f connecttest.Fault) bool {
	if f == connecttest.Malformed {
		return w.line("{no json") == nil
	}
	return f == connecttest.Well
}

func TestSuite(t *testing.T) {
	connecttest.Run(t, connecttest.Case{
		Protocol: "files", Acknowledged: true, Once: true,
		New: func(t *testing.T, _ string) (string, connecttest.Device) {
			dir := t.TempDir()
			w := &writer{t: t, folder: filepath.Join(dir, "in"), hidden: filepath.Join(dir, "hidden")}
			if err := os.Mkdir(w.hidden, 0o755); err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("name: dev\nfolder: %s\nevery: 100ms\nformat: json\n", w.folder), w
		},
		Make: func(p *site.Profile) (connect.Connector, error) { return files.New(p.Connect.Files[0]) },
		Cannot: map[string]string{
			"slow device":       "a file is there or it is not",
			"times and quality": "lines of a file carry neither",
		},
	})
}
