package site

import (
	"fmt"
	"net/url"
	"path"
	"strings"
	"time"
)

// Files reads the files of a folder, on the box or on an FTP or SFTP server.
type Files struct {
	Name string `yaml:"name"`
	// Folder is a path on the box, or sftp://user@host/path,
	// ftp://user@host/path, or ftps:// for FTP with TLS.
	Folder   string `yaml:"folder"`
	Password string `yaml:"password,omitempty"` // file
	Key      string `yaml:"key,omitempty"`      // file of an SSH private key
	HostKey  string `yaml:"host_key,omitempty"` // file of the SSH server's public keys, as in known_hosts or authorized_keys
	CA       string `yaml:"ca,omitempty"`       // file of authorities, PEM, for ftps; default: those of the system
	Match    string `yaml:"match,omitempty"`    // names, with * and ?; default *
	Every    string `yaml:"every,omitempty"`    // how often the folder is looked at; default 5s on the box, else 1m
	// Settle is for how long a file must not have grown before what lacks a
	// line end, or a whole file, is taken. Default 10s.
	Settle string `yaml:"settle,omitempty"`
	Format string `yaml:"format,omitempty"` // lines, json, csv, fixed or whole; default lines
	// CSV: Delimiter, and names for Columns of files without a header line.
	Delimiter string      `yaml:"delimiter,omitempty"`
	Columns   []string    `yaml:"columns,omitempty"`
	Numbers   bool        `yaml:"numbers,omitempty"` // what reads as a JSON number becomes one
	Length    int         `yaml:"length,omitempty"`  // fixed: bytes of a record, line end included
	Fields    []FileField `yaml:"fields,omitempty"`  // fixed
	// After a file was read whole and has settled: keep, delete, or move it to
	// Archive.
	After   string  `yaml:"after,omitempty"`
	Archive string  `yaml:"archive,omitempty"` // folder beside the files
	Records Records `yaml:"records,omitempty"`
}

// FileField is a field of a fixed record.
type FileField struct {
	Name   string  `yaml:"name"`
	At     int     `yaml:"at,omitempty"`     // first byte, from 0
	Type   string  `yaml:"type,omitempty"`   // as of a device's value; default string
	Length int     `yaml:"length,omitempty"` // bytes, of string and bytes
	Order  string  `yaml:"order,omitempty"`
	Scale  float64 `yaml:"scale,omitempty"`
	Offset float64 `yaml:"offset,omitempty"`
}

// Words of Files.
const (
	FilesLines = "lines"
	FilesJSON  = "json"
	FilesCSV   = "csv"
	FilesFixed = "fixed"
	FilesWhole = "whole"

	AfterKeep   = "keep"
	AfterDelete = "delete"
	AfterMove   = "move"

	// MaxFixed is the longest fixed record, in bytes.
	MaxFixed = 64 << 10
)

// Common implements Instance.
func (f *Files) Common() Common {
	return Common{Name: f.Name, Records: &f.Records, Words: []string{"file"}}
}

func (f *Files) fill() {
	orString(&f.Match, "*")
	orString(&f.Settle, "10s")
	orString(&f.Format, FilesLines)
	orString(&f.After, AfterKeep)
	orString(&f.Delimiter, ",")
	if strings.Contains(f.Folder, "://") {
		orString(&f.Every, "1m")
	}
	orString(&f.Every, "5s")
	for i := range f.Fields {
		orString(&f.Fields[i].Type, "string")
	}
	f.Records.fill(f.Name, "{file}")
}

func (f *Files) check(c checker, at string) {
	c.text(at+".folder", f.Folder, fileFolder)
	for field, s := range map[string]string{"password": f.Password, "key": f.Key, "host_key": f.HostKey, "ca": f.CA} {
		c.secret(at+"."+field, s)
	}
	if strings.HasPrefix(f.Folder, "sftp:") && (f.HostKey == "" || (f.Password == "") == (f.Key == "")) {
		c.key(at, "", "sftp needs host_key, and one of password and key: names of files")
	}
	c.text(at+".match", f.Match, func(s string) fault {
		if _, err := path.Match(s, ""); err != nil || strings.Contains(s, "/") {
			return faultf("%q is no pattern of file names, such as *.csv", shorten(s))
		}
		return fault{}
	})
	c.text(at+".every", f.Every, span(100*time.Millisecond, 24*time.Hour))
	c.text(at+".settle", f.Settle, span(0, 24*time.Hour))
	c.text(at+".format", f.Format, oneOf(FilesLines, FilesJSON, FilesCSV, FilesFixed, FilesWhole))
	c.text(at+".after", f.After, oneOf(AfterKeep, AfterDelete, AfterMove))
	if (f.After == AfterMove) != (f.Archive != "") {
		c.key(at, "", "after: move and archive, the folder to move to, need each other")
	}
	if r := []rune(f.Delimiter); f.Delimiter != "" && (len(r) != 1 || strings.ContainsRune("\"\r\n", r[0])) {
		c.value(at+".delimiter", "", "want one character, not a quote, got %q", shorten(f.Delimiter))
	}
	if f.Records.Format != "" {
		c.value(at+".records.format", "", "is not used: the format of the files says what a record is")
	}
	f.checkFixed(c, at)
}

func (f *Files) checkFixed(c checker, at string) {
	if f.Format != FilesFixed {
		if f.Length != 0 || len(f.Fields) > 0 {
			c.key(at, "", "length and fields are for format: fixed")
		}
		return
	}
	if f.Length < 1 || f.Length > MaxFixed || len(f.Fields) == 0 {
		c.key(at, "", "format: fixed needs length, 1 to %d bytes of a record, and fields", MaxFixed)
	}
	field := func(i int) string { return fmt.Sprintf("%s.fields[%d]", at, i) }
	for i, d := range f.Fields {
		c.text(field(i)+".type", d.Type, oneOf(valueTypes...))
		c.text(field(i)+".order", d.Order, oneOf(byteOrders...))
		if d.At < 0 || d.Length < 0 || d.At+max(d.Length, 1) > f.Length {
			c.key(field(i), "", "does not lie within the %d bytes of a record", f.Length)
		}
	}
	c.unique(len(f.Fields), func(i int) (string, string) { return f.Fields[i].Name, field(i) + ".name" })
}

func fileFolder(s string) fault {
	if strings.HasPrefix(s, "/") {
		return fault{}
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "sftp" && u.Scheme != "ftp" && u.Scheme != "ftps"):
		return faultf("%q is no folder such as /data/connect/in or sftp://user@192.0.2.5/export", shorten(s))
	case u.User.Username() == "":
		return faultf("%q names no user, as in sftp://user@192.0.2.5/export", shorten(s))
	}
	if _, has := u.User.Password(); has {
		return faultf("holds a password: write it into a file of the secrets directory, and name that in password")
	}
	return fault{}
}
