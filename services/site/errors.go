package site

import (
	"fmt"
	"strings"
)

// FieldError is one thing wrong with a profile.
type FieldError struct {
	File   string `json:"file"`
	Line   int    `json:"line"`            // from 1
	Column int    `json:"column"`          // in characters, from 1
	Field  string `json:"field,omitempty"` // path such as "broker.topics[0].name"; "" for the file itself
	Reason string `json:"reason"`
	Hint   string `json:"hint,omitempty"` // the nearest valid word, if one is near
}

// Error is "file:line:column: field: reason (did you mean "x"?)".
func (e FieldError) Error() string {
	s := fmt.Sprintf("%s:%d:%d: ", e.File, e.Line, e.Column)
	if e.Field != "" {
		s += e.Field + ": "
	}
	s += e.Reason
	if e.Hint != "" {
		s += fmt.Sprintf(" (did you mean %q?)", e.Hint)
	}
	return s
}

// Errors is everything wrong with one profile, in the order of its lines. It
// is never empty when it is returned as an error.
type Errors []FieldError

// Error holds one line for each FieldError.
func (e Errors) Error() string { return strings.Join(e.Lines(), "\n") }

// Lines is Error as separate lines, in the shape manifest.Profile carries.
func (e Errors) Lines() []string {
	lines := make([]string, len(e))
	for i, f := range e {
		lines[i] = f.Error()
	}
	return lines
}
