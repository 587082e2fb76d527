package manifest

import (
	"os"
	"path/filepath"
	"testing"
)

// TestFormatLevel: what init did not say clearly holds services back.
func TestFormatLevel(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]int{
		"1\n": LevelFirst, "2\n": LevelTransactions, "2": LevelTransactions, "99\n": FormatLevel,
		"": LevelFirst, "0\n": LevelFirst, "-1\n": LevelFirst, "two\n": LevelFirst, "2\n2\n": LevelFirst,
	} {
		file := filepath.Join(dir, "level")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := ReadFormatLevel(file); got != want {
			t.Errorf("%q: got level %d, want %d", text, got, want)
		}
	}
	if got := ReadFormatLevel(filepath.Join(dir, "none")); got != LevelFirst {
		t.Errorf("no file: got level %d, want %d: it is not known what the release before can read", got, LevelFirst)
	}
	if got := ReadFormatLevel(dir); got != LevelFirst {
		t.Errorf("not a file: got level %d, want %d", got, LevelFirst)
	}
}
