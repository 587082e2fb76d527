package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/waysideos/wayside/services/claim"
)

// claimRow is one box as a person describes it.
type claimRow struct {
	name, serial, mac string
	variables         []string          // NAME=VALUE
	secrets           []string          // NAME=@FILE
	cells             map[string]string // secrets themselves, of a table
}

// claim reads what a person described; files are beside a folder.
func (r claimRow) claim(beside string) (*claim.Claim, error) {
	c := &claim.Claim{
		Name: r.name, Serial: r.serial, MAC: strings.ReplaceAll(strings.ToLower(r.mac), "-", ":"),
		Variables: map[string]string{}, Secrets: map[string][]byte{},
	}
	if r.name == "" {
		return nil, errors.New("which box the claim is for is not known: give --name, or --from for many")
	}
	for _, text := range r.variables {
		name, value, ok := strings.Cut(text, "=")
		if _, twice := c.Variables[name]; !ok || twice {
			return nil, fmt.Errorf("claim of %q: variable %q: want NAME=VALUE, each once", r.name, name)
		}
		c.Variables[name] = value
	}
	for _, text := range r.secrets {
		name, file, ok := strings.Cut(text, "=@")
		// What is wrong is not repeated: it may be the secret.
		if name, _, _ = strings.Cut(name, "="); !ok {
			return nil, fmt.Errorf("claim of %q: secret %q: want NAME=@FILE: what stands on a command line is in the shell's history", r.name, name)
		}
		if _, twice := c.Secrets[name]; twice {
			return nil, fmt.Errorf("claim of %q: secret %q is given twice", r.name, name)
		}
		if !filepath.IsAbs(file) {
			file = filepath.Join(beside, file)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("claim of %q: secret %s: %w", r.name, name, err)
		}
		c.Secrets[name] = data
	}
	for name, text := range r.cells {
		c.Secrets[name] = []byte(text)
	}
	return c, nil
}

// readRows reads a table of boxes.
func readRows(file string) ([]claimRow, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read table: %w", err)
	}
	defer f.Close()
	in := csv.NewReader(f)
	head, err := in.Read()
	if err == io.EOF {
		err = errors.New("it is empty")
	}
	if err == nil {
		head[0] = strings.TrimPrefix(head[0], "\ufeff") // of spreadsheets
		err = checkHead(head)
	}
	if err != nil {
		return nil, fmt.Errorf("read table %s: %v", file, err)
	}
	var rows []claimRow
	line := map[string]int{}
	for {
		cells, err := in.Read()
		if err == io.EOF {
			break
		}
		if err != nil { // line and column, none of what is there
			return nil, fmt.Errorf("read table %s: %v", file, err)
		}
		row := rowOf(head, cells)
		at, _ := in.FieldPos(0)
		if first := line[row.name]; first > 0 {
			return nil, fmt.Errorf("%s:%d: the box %q is on line %d already", file, at, row.name, first)
		}
		line[row.name] = at
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("read table %s: there is no row below the headings", file)
	}
	return rows, nil
}

func checkHead(head []string) error {
	if !slices.Contains(head, "name") {
		return fmt.Errorf("want a row of headings with name in it, got %d columns without", len(head))
	}
	for i, h := range head {
		kind, name, _ := strings.Cut(h, ".")
		if h != "name" && h != "serial" && h != "mac" && (kind != "var" && kind != "secret" || name == "") {
			return fmt.Errorf("column %d: want name, serial, mac, var.NAME or secret.FILE, got %.40q", i+1, h)
		}
		if slices.Contains(head[:i], h) {
			return fmt.Errorf("column %d: %s is there twice", i+1, h)
		}
	}
	return nil
}

// rowOf leaves out what is empty.
func rowOf(head, cells []string) claimRow {
	r := claimRow{cells: map[string]string{}}
	for i, text := range cells {
		kind, name, _ := strings.Cut(head[i], ".")
		switch {
		case text == "":
		case kind == "name":
			r.name = text
		case kind == "serial":
			r.serial = text
		case kind == "mac":
			r.mac = text
		case kind == "var":
			r.variables = append(r.variables, name+"="+text)
		case strings.HasPrefix(text, "@"):
			r.secrets = append(r.secrets, name+"="+text)
		default:
			r.cells[name] = text
		}
	}
	return r
}
