package site

import (
	"errors"
	"fmt"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Nesting a profile can need is 7; these keep the recursive parser from deep
// or expensive input. Outside brackets, YAML nests on one line only by
// repeating "-" and ":".
const (
	maxFlowDepth = 16 // of [ and {
	maxPerLine   = 4  // of - and : outside brackets
	maxColumn    = 512
	// The parser takes time in the square of a mapping's length: a quarter of
	// a second for this many tokens. 1000 topics with settings need half.
	maxTokens = 30_000
)

// refused holds the parts of YAML that a profile does without: each of them
// makes a file mean something else than it shows.
var refused = map[token.Type]string{
	token.AnchorType:     "anchors (&) are not allowed; quote text that starts with &",
	token.AliasType:      "aliases (*) are not allowed; quote text that starts with *",
	token.MergeKeyType:   "merge keys (<<) are not allowed",
	token.TagType:        "tags (!) are not allowed; quote text that starts with !",
	token.DirectiveType:  "directives (%) are not allowed",
	token.MappingKeyType: "keys with ? are not allowed",
}

// parseTree returns the one mapping a profile is.
func parseTree(text string) (*ast.MappingNode, *FieldError) {
	tokens := lexer.Tokenize(text)
	if bad := checkTokens(tokens); bad != nil {
		return nil, bad
	}
	// Duplicate keys are found by decodeProfile, all of them.
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, syntaxError(err)
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil, &FieldError{Line: 1, Column: 1, Reason: `the file is empty; a profile has at least "version: 1" and "site: NAME"`}
	}
	if len(file.Docs) > 1 {
		at := position{1, 1}
		if s := file.Docs[1].Start; s != nil {
			at = positionOf(s)
		}
		return nil, &FieldError{Line: at.line, Column: at.column, Reason: "a second document starts here; a profile is one document"}
	}
	root, ok := file.Docs[0].Body.(*ast.MappingNode)
	if !ok {
		at := positionOf(file.Docs[0].Body.GetToken())
		return nil, &FieldError{Line: at.line, Column: at.column, Reason: fmt.Sprintf("want fields such as \"site: NAME\", got %s", kindOf(file.Docs[0].Body))}
	}
	return root, nil
}

func checkTokens(tokens token.Tokens) *FieldError {
	flow, line, perLine := 0, 0, 0
	for n, t := range tokens {
		at := positionOf(t)
		fail := func(reason string) *FieldError {
			return &FieldError{Line: at.line, Column: at.column, Reason: reason}
		}
		if reason, ok := refused[t.Type]; ok {
			return fail(reason)
		}
		if n >= maxTokens {
			return fail("the profile is too long; from here on it is more than a box can use")
		}
		if at.line != line {
			line, perLine = at.line, 0
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
			continue // however long the line has become
		case token.SequenceEntryType, token.MappingValueType:
			if flow <= 0 {
				perLine++
			}
		}
		if flow > maxFlowDepth || perLine > maxPerLine || (flow <= 0 && perLine > 0 && at.column > maxColumn && t.Type != token.CommentType) {
			return fail("nested too deeply")
		}
	}
	return nil
}

func syntaxError(err error) *FieldError {
	var syntax *yaml.SyntaxError
	if !errors.As(err, &syntax) || syntax.Token == nil {
		return &FieldError{Line: 1, Column: 1, Reason: "not YAML: " + err.Error()}
	}
	at := positionOf(syntax.Token)
	return &FieldError{Line: at.line, Column: at.column, Reason: "not YAML: " + syntax.Message}
}
