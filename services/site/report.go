package site

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/token"
)

// maxErrors bounds a report: it is printed on a console and shown on a page.
const maxErrors = 50

type position struct{ line, column int }

func positionOf(t *token.Token) position {
	if t == nil || t.Position == nil {
		return position{1, 1}
	}
	return position{t.Position.Line, t.Position.Column}
}

// report collects what is wrong and knows where each field stands.
type report struct {
	file string
	errs Errors
	keys map[string]position // of the field's name, or of a list's item
	vals map[string]position // of its value
	bad  map[string]bool     // a field is complained of once

	secrets map[string]bool // files in the secrets directory that were named
}

func newReport(file string) *report {
	return &report{file: file, keys: map[string]position{}, vals: map[string]position{}, bad: map[string]bool{}, secrets: map[string]bool{}}
}

// key complains of a field's name, value of what it holds.
func (r *report) key(field, hint, format string, a ...any) {
	r.add(r.keys[field], field, hint, format, a...)
}

func (r *report) value(field, hint, format string, a ...any) {
	at, ok := r.vals[field]
	if !ok {
		at = r.keys[field]
	}
	r.add(at, field, hint, format, a...)
}

func (r *report) add(at position, field, hint, format string, a ...any) {
	if r.bad[field] {
		return
	}
	r.bad[field] = true
	if at.line == 0 {
		at = position{1, 1}
	}
	r.errs = append(r.errs, FieldError{
		File: r.file, Line: at.line, Column: at.column, Field: field,
		Reason: fmt.Sprintf(format, a...), Hint: hint,
	})
}

// lineOf says where a field was given, for "first on line N".
func (r *report) lineOf(field string) int { return r.keys[field].line }

func (r *report) errors() Errors {
	slices.SortStableFunc(r.errs, func(a, b FieldError) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), strings.Compare(a.Field, b.Field))
	})
	if more := len(r.errs) - maxErrors; more > 0 {
		last := r.errs[maxErrors]
		r.errs = append(r.errs[:maxErrors:maxErrors], FieldError{
			File: r.file, Line: last.Line, Column: last.Column, Reason: fmt.Sprintf("%d more errors", more),
		})
	}
	return r.errs
}
