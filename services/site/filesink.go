package site

import (
	"fmt"
	"path"
	"strings"
	"time"
)

// FileSink writes topics into files, for those who carry data away.
type FileSink struct {
	Name   string   `yaml:"name"`
	Topics []string `yaml:"topics"` // by name, or with a trailing *
	// Folder is a path on the box. Stick is a folder on a removable disk: one
	// that has it is written to while it is plugged in. One of the two.
	Folder string `yaml:"folder,omitempty"`
	Stick  string `yaml:"stick,omitempty"`
	// File is a template of names below the folder, without the ending;
	// default "{topic}-{partition}-{offset}".
	File      string `yaml:"file,omitempty"`
	Format    string `yaml:"format,omitempty"` // csv, json (lines) or parquet; default csv
	Delimiter string `yaml:"delimiter,omitempty"`
	// Include says what is told of a record beside its value: topic,
	// partition, offset, timestamp, key, headers. Default offset, timestamp,
	// key; with Columns none.
	Include []string     `yaml:"include,omitempty"`
	Columns []SinkColumn `yaml:"columns,omitempty"` // default: the fields of the JSON objects
	Rotate  SinkRotate   `yaml:"rotate,omitempty"`
	Keep    SinkKeep     `yaml:"keep,omitempty"`
}

// SinkColumn is a column of a file, or a field of a line.
type SinkColumn struct {
	Name string `yaml:"name"`
	// From is a field of the JSON value, with dots for those inside, such as
	// value or motor.speed, or header:NAME. Default: Name.
	From string `yaml:"from,omitempty"`
	// Type is string, bool, int64, float64 or timestamp; default: as JSON has
	// it, which in Parquet is text.
	Type string `yaml:"type,omitempty"`
}

// SinkRotate says when a file is complete.
type SinkRotate struct {
	Size  string `yaml:"size,omitempty"`  // default 64MB
	Every string `yaml:"every,omitempty"` // after its first record; default 1h
}

// SinkKeep says how many complete files stay; the oldest go.
type SinkKeep struct {
	Files int    `yaml:"files,omitempty"` // default: all
	Size  string `yaml:"size,omitempty"`  // of all; default: no bound
}

// Words of FileSink.
const (
	SinkCSV     = "csv"
	SinkJSON    = "json"
	SinkParquet = "parquet"

	// MaxSinkColumns is the most that a file has.
	MaxSinkColumns = 500
)

var (
	sinkWords   = []string{"topic", "partition", "offset", "date", "time"}
	sinkInclude = []string{"topic", "partition", "offset", "timestamp", "key", "headers"}
	sinkTypes   = []string{"string", "bool", "int64", "float64", "timestamp"}
)

// Common implements Instance.
func (f *FileSink) Common() Common { return Common{Name: f.Name} }

func (f *FileSink) fill() {
	orString(&f.File, "{topic}-{partition}-{offset}")
	orString(&f.Format, SinkCSV)
	orString(&f.Delimiter, ",")
	if f.Include == nil && len(f.Columns) == 0 {
		f.Include = []string{"offset", "timestamp", "key"}
	}
	for i := range f.Columns {
		orString(&f.Columns[i].From, f.Columns[i].Name)
	}
	orString(&f.Rotate.Size, "64MB")
	orString(&f.Rotate.Every, "1h")
}

func (f *FileSink) check(c checker, at string) {
	c.texts(at+".topics", f.Topics, topicMatch)
	if (f.Folder == "") == (f.Stick == "") {
		c.key(at, "", "needs one of folder, a path on the box, and stick, a folder on a removable disk")
	}
	if f.Folder != "" && (!path.IsAbs(f.Folder) || path.Clean(f.Folder) != f.Folder || f.Folder == "/") {
		c.value(at+".folder", "", "want the whole path of a folder, such as /var/lib/connect/out, got %q", shorten(f.Folder))
	}
	c.text(at+".stick", f.Stick, stickFolder)
	c.text(at+".file", f.File, sinkFile)
	c.text(at+".format", f.Format, oneOf(SinkCSV, SinkJSON, SinkParquet))
	if r := []rune(f.Delimiter); f.Delimiter != "" && (len(r) != 1 || strings.ContainsRune("\"\r\n", r[0])) {
		c.value(at+".delimiter", "", "want one character, not a quote, got %q", shorten(f.Delimiter))
	}
	c.texts(at+".include", f.Include, oneOf(sinkInclude...))
	if len(f.Columns) > MaxSinkColumns {
		c.key(at, "", "has %d columns, the most is %d", len(f.Columns), MaxSinkColumns)
	}
	c.text(at+".rotate.size", f.Rotate.Size, sinkSize(1e3, 4e9, "from 1kB to 4GB, such as 64MB"))
	c.text(at+".rotate.every", f.Rotate.Every, span(100*time.Millisecond, 31*24*time.Hour))
	c.text(at+".keep.size", f.Keep.Size, sinkSize(1e3, 1e15, "from 1kB, such as 10GB"))
	if f.Keep.Files < 0 {
		c.value(at+".keep.files", "", "want a number from 1, got %d", f.Keep.Files)
	}
	f.checkColumns(c, at)
}

// sinkPlaces keeps sinks apart: one that names its files as another does, in
// the same folder, would write over them, and remove them by its keep.
func (c checker) sinkPlaces(path string, all []FileSink) {
	type place struct{ folder, stick, file, format string }
	first := map[place]int{}
	for i := range all {
		f := &all[i]
		if strings.Contains(f.File, braced("connector")) {
			continue
		}
		at := place{f.Folder, f.Stick, f.File, f.Format}
		if earlier, ok := first[at]; ok {
			c.key(fmt.Sprintf("%s[%d]", path, i), "", "names its files as %s does, in the same folder: give it another one, or a file with {connector}", all[earlier].Name)
			continue
		}
		first[at] = i
	}
}

func (f *FileSink) checkColumns(c checker, at string) {
	field := func(i int) string {
		if i < len(f.Include) {
			return fmt.Sprintf("%s.include[%d]", at, i)
		}
		return fmt.Sprintf("%s.columns[%d].name", at, i-len(f.Include))
	}
	for i, d := range f.Columns {
		p := fmt.Sprintf("%s.columns[%d]", at, i)
		c.text(p+".name", d.Name, func(s string) fault {
			if len(s) > 100 || strings.ContainsAny(s, "\r\n\"") {
				return faultf("%q is no column's name: at most 100 characters, without quotes and line breaks", shorten(s))
			}
			return fault{}
		})
		c.text(p+".type", d.Type, oneOf(sinkTypes...))
	}
	// A name twice would be one column in Parquet and a broken object in JSON.
	c.unique(len(f.Include)+len(f.Columns), func(i int) (string, string) {
		if i < len(f.Include) {
			return f.Include[i], field(i)
		}
		return f.Columns[i-len(f.Include)].Name, field(i)
	})
}

func sinkSize(least, most int64, want string) rule {
	return func(s string) fault {
		if n, err := ParseSize(s); err != nil || n < least || n > most {
			return faultf("want a size %s, got %q", want, shorten(s))
		}
		return fault{}
	}
}

// stickFolder is a name in the root of a removable disk.
func stickFolder(s string) fault {
	if bad := notIn(s, lower+upper+digits+"-_"); bad != "" || len(s) > 32 {
		return faultf("%q is no folder of a stick: want letters, digits, hyphens and underscores, at most 32", shorten(s))
	}
	return fault{}
}

// sinkFile is a template whose files all have different names, also on the
// file systems of sticks.
func sinkFile(s string) fault {
	if f := templateOf(append(commonWords[:len(commonWords):len(commonWords)], sinkWords...))(s); f.reason != "" {
		return f
	}
	for _, word := range []string{"topic", "partition", "offset"} {
		if !strings.Contains(s, braced(word)) {
			return faultf("lacks %s: two files would have one name", braced(word))
		}
	}
	plain, _ := ExpandTemplate(s, func(string) (string, bool) { return "x", true })
	if bad := notIn(plain, lower+upper+digits+"-_./"); bad != "" {
		return faultf("%q has %q; use letters, digits, hyphens, underscores, dots, and / for folders", shorten(s), bad)
	}
	for part := range strings.SplitSeq(plain, "/") {
		if part == "" || part[0] == '.' {
			return faultf("%q: names of files and folders begin with a letter, a digit or a word in braces", shorten(s))
		}
	}
	if len(s) > 200 {
		return faultf("has %d characters, the most is 200", len(s))
	}
	return fault{}
}
