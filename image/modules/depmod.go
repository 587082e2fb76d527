package modules

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// WriteDep writes modules.dep for a selection that holds all its
// dependencies: "path: path path", everything a module needs, in the order in
// which the last is loaded first. A module that needs nothing ends with its
// colon: readers in use take a blank there for a module without a name.
func WriteDep(w io.Writer, mods []Module) error {
	byName := make(map[string]*Module, len(mods))
	for i := range mods {
		byName[mods[i].Name] = &mods[i]
	}
	out := bufio.NewWriter(w)
	for i := range mods {
		deps, err := loadOrder(byName, &mods[i])
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s:", mods[i].Path)
		for j := len(deps) - 1; j >= 0; j-- {
			fmt.Fprintf(out, " %s", deps[j].Path)
		}
		fmt.Fprintln(out)
	}
	return out.Flush()
}

// loadOrder lists what must be loaded before m, first things first.
func loadOrder(byName map[string]*Module, m *Module) ([]*Module, error) {
	var order []*Module
	const visiting, done = 1, 2
	state := map[*Module]int{m: visiting}
	var visit func(m *Module) error
	visit = func(m *Module) error {
		for _, name := range m.Depends {
			dep := byName[name]
			switch {
			case dep == nil:
				return fmt.Errorf("write modules.dep: %s needs %s, which was not selected", m.Path, name)
			case state[dep] == visiting:
				return fmt.Errorf("write modules.dep: %s and %s need each other", m.Path, dep.Path)
			case state[dep] == done:
				continue
			}
			state[dep] = visiting
			if err := visit(dep); err != nil {
				return err
			}
			state[dep] = done
			order = append(order, dep)
		}
		return nil
	}
	return order, visit(m)
}

// WriteAlias writes modules.alias: "alias PATTERN NAME".
func WriteAlias(w io.Writer, mods []Module) error {
	out := bufio.NewWriter(w)
	for _, m := range mods {
		for _, alias := range m.Aliases {
			fmt.Fprintln(out, aliasLine(alias, m.Name))
		}
	}
	return out.Flush()
}

// aliasLine is one line of modules.alias. A blank would end the pattern.
func aliasLine(alias, name string) string {
	return "alias " + strings.ReplaceAll(alias, " ", "?") + " " + name
}

// WriteSoftdep writes modules.softdep: "softdep NAME pre: a post: b".
func WriteSoftdep(w io.Writer, mods []Module) error {
	out := bufio.NewWriter(w)
	for _, m := range mods {
		for _, s := range m.Softdeps {
			fmt.Fprintf(out, "softdep %s %s\n", m.Name, s)
		}
	}
	return out.Flush()
}

// WriteLines writes one line each, such as Index.BuiltinAliases.
func WriteLines(w io.Writer, lines []string) error {
	out := bufio.NewWriter(w)
	for _, line := range lines {
		fmt.Fprintln(out, line)
	}
	return out.Flush()
}
