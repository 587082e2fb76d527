package files

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/site"
)

// pieces splits text handed out in steps of n bytes, as a file that grows.
func pieces(t *testing.T, cfg site.Files, text string, n int) (values []string, letters []dead) {
	t.Helper()
	if cfg.Delimiter == "" {
		cfg.Delimiter = ","
	}
	s, err := newSplitter(cfg)
	if err != nil {
		t.Fatal(err)
	}
	at, skip := 0, false
	for size := min(n, len(text)); ; size = min(size+n, len(text)) {
		for at < size {
			data := []byte(text[at:min(size, at+batchBytes)])
			end := size == len(text) && at+len(data) == size
			l, err := s.split(chunk{data: data, name: "f", offset: int64(at), skip: skip, end: end, full: len(data) == batchBytes},
				func() ([]byte, error) { return []byte(text), nil })
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range l.records {
				values = append(values, string(r.Value))
			}
			letters = append(letters, l.dead...)
			if at, skip = at+l.used, l.skip; l.used == 0 {
				break
			}
		}
		if size == len(text) {
			break
		}
	}
	if at != len(text) {
		t.Errorf("step %d: stopped at byte %d of %d", n, at, len(text))
	}
	return values, letters
}

func TestFormats(t *testing.T) {
	fields := []site.FileField{{Name: "id", Type: "string", Length: 4}, {Name: "n", At: 4, Type: "uint16"}}
	for name, c := range map[string]struct {
		cfg  site.Files
		text string
		want []string
		dead int
	}{
		"lines":        {site.Files{}, "\xef\xbb\xbfone\r\n\ntwo\nlast", []string{"one", "two", "last"}, 0},
		"json":         {site.Files{Format: "json"}, "{\"a\":1}\nno\n[2]\n", []string{`{"a":1}`, `[2]`}, 1},
		"csv":          {site.Files{Format: "csv", Numbers: true}, "\xef\xbb\xbfid,text,n\n1,\"a\nb\"\"c\",2.50\n2,x,007\n3\n", []string{`{"id":1,"text":"a\nb\"c","n":2.50}`, `{"id":2,"text":"x","n":"007"}`}, 1},
		"csv columns":  {site.Files{Format: "csv", Delimiter: ";", Columns: []string{"a", "b"}}, "1;2\n\n3;4", []string{`{"a":"1","b":"2"}`, `{"a":"3","b":"4"}`}, 0},
		"fixed":        {site.Files{Format: "fixed", Length: 7, Fields: fields}, "ab  \x01\x02\ncd\n \x00\n\n", []string{`{"id":"ab","n":258}`, `{"id":"cd\n","n":10}`}, 0},
		"fixed, short": {site.Files{Format: "fixed", Length: 7, Fields: fields}, "ab  \x01\x02\ncd", []string{`{"id":"ab","n":258}`}, 1},
		"whole":        {site.Files{Format: "whole"}, "a\nb\n\n", []string{"a\nb\n\n"}, 0},
	} {
		for step := 1; step <= len(c.text); step++ {
			got, letters := pieces(t, c.cfg, c.text, step)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s, step %d (-want +got):\n%s", name, step, diff)
			}
			if len(letters) != c.dead {
				t.Errorf("%s, step %d: %d dead letters %q, want %d", name, step, len(letters), letters, c.dead)
			}
		}
	}
}

// A record that is longer than any may be is a dead letter, and only it.
func TestALongRecord(t *testing.T) {
	long := strings.Repeat("x", batchBytes*2+17)
	for name, cfg := range map[string]site.Files{"lines": {}, "csv": {Format: "csv", Columns: []string{"a"}}} {
		got, letters := pieces(t, cfg, "before\n"+long+"\nafter\n", 100_000)
		want := []string{"before", "after"}
		if cfg.Format == "csv" {
			want = []string{`{"a":"before"}`, `{"a":"after"}`}
		}
		if diff := cmp.Diff(want, got); diff != "" || len(letters) != 1 {
			t.Errorf("%s: %d dead letters (-want +got):\n%s", name, len(letters), diff)
		}
	}
	got, letters := pieces(t, site.Files{Format: "csv", Columns: []string{"a"}}, "x\n\"no end\n"+strings.Repeat(strings.Repeat("y", 999)+"\n", 1000), batchBytes)
	if len(got) < 500 || len(letters) == 0 || len(letters) > 2 {
		t.Errorf("after a quote without its twin: %d records, %d dead letters", len(got), len(letters))
	}
	if got, letters := pieces(t, site.Files{Format: "whole"}, long, batchBytes); len(got) != 0 || len(letters) != 1 {
		t.Errorf("a file that is too long: %d records, %d dead letters", len(got), len(letters))
	}
}

// FuzzSplit wants every byte of a file used once, whatever it holds.
func FuzzSplit(f *testing.F) {
	for i := range 5 {
		f.Add([]byte("id,text\n1,\"a\nb\"\n{}\n\n\xff\"\n"), uint8(i))
	}
	formats := []site.Files{
		{Delimiter: ","}, {Format: "json", Delimiter: ","}, {Format: "csv", Delimiter: ",", Numbers: true}, {Format: "whole", Delimiter: ","},
		{Format: "fixed", Delimiter: ",", Length: 3, Fields: []site.FileField{{Name: "a", Type: "uint16"}}},
	}
	f.Fuzz(func(t *testing.T, data []byte, n uint8) {
		s, err := newSplitter(formats[int(n)%len(formats)])
		if err != nil {
			t.Fatal(err)
		}
		at, skip := 0, false
		for at < len(data) {
			l, err := s.split(chunk{data: data[at:], name: "f", offset: int64(at), skip: skip, end: true}, func() ([]byte, error) { return data, nil })
			if err != nil {
				return // the first line names no columns
			}
			if l.used <= 0 || l.used > len(data)-at {
				t.Fatalf("%d of %d bytes used", l.used, len(data)-at)
			}
			for _, r := range l.records {
				if bytes.Contains(r.Value, []byte("\n")) && n%5 < 2 {
					t.Fatal(fmt.Sprintf("a line holds a line end: %q", r.Value))
				}
			}
			at, skip = at+l.used, l.skip
		}
	})
}
