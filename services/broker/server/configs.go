package server

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/catalog"
)

// configurable is a resource whose configuration can be seen and altered.
type configurable struct {
	defs []catalog.Def
	// settings are all values of one configuration; the first counts.
	settings func(catalog.Def) []catalog.Setting
	// edit alters what was set for the resource itself; nil for topics, which
	// are altered together.
	edit func(dryRun bool, edit func(map[string]string) error) error
}

// configurable finds a resource.
func (s *Server) configurable(kind kmsg.ConfigResourceType, name string) (configurable, error) {
	switch kind {
	case kmsg.ConfigResourceTypeTopic:
		return s.configurableTopic(name)
	case kmsg.ConfigResourceTypeBroker:
		return s.configurableBroker(name)
	case kmsg.ConfigResourceTypeGroupConfig:
		return s.configurableGroup(name)
	case kmsg.ConfigResourceTypeBrokerLogger, kmsg.ConfigResourceTypeClientMetrics:
		return configurable{edit: func(bool, func(map[string]string) error) error {
			return fmt.Errorf("%w: there is nothing to configure in resources of type %v", kerr.InvalidRequest, kind)
		}}, nil
	}
	return configurable{}, fmt.Errorf("%w: resources of type %v have no configuration", kerr.InvalidRequest, kind)
}

func (s *Server) configurableTopic(name string) (configurable, error) {
	if err := catalog.CheckName(name); err != nil {
		return configurable{}, err
	}
	t := s.Catalog.Get(name)
	if t == nil {
		return configurable{}, fmt.Errorf("%w: %s", catalog.ErrUnknown, name)
	}
	return configurable{
		defs:     catalog.Defs,
		settings: func(d catalog.Def) []catalog.Setting { return s.Catalog.TopicSettings(t, d) },
	}, nil
}

// configurableBroker is this broker, or without a name what was set for all
// brokers.
func (s *Server) configurableBroker(name string) (configurable, error) {
	if name != "" && name != strconv.Itoa(NodeID) {
		return configurable{}, fmt.Errorf("%w: the only broker is %d", kerr.InvalidRequest, NodeID)
	}
	return configurable{
		defs: catalog.BrokerDefs,
		settings: func(d catalog.Def) []catalog.Setting {
			all := s.Catalog.BrokerSettings(d)
			if name == "" {
				all = slices.DeleteFunc(all, func(v catalog.Setting) bool { return v.Origin != catalog.OfAllBrokers })
			}
			return all
		},
		edit: func(dryRun bool, edit func(map[string]string) error) error {
			return s.Catalog.EditBroker(name, dryRun, edit)
		},
	}, nil
}

func (s *Server) configurableGroup(name string) (configurable, error) {
	if name == "" {
		return configurable{}, fmt.Errorf("%w: a group has a name", kerr.InvalidRequest)
	}
	return configurable{
		defs:     catalog.GroupDefs,
		settings: func(d catalog.Def) []catalog.Setting { return s.Catalog.GroupSettings(name, d) },
		edit: func(dryRun bool, edit func(map[string]string) error) error {
			return s.Catalog.EditGroup(name, dryRun, edit)
		},
	}, nil
}

// alteration is what a request wants of one resource.
type alteration struct {
	kind    kmsg.ConfigResourceType
	name    string
	replace bool // forget what was set before
	changes []change
}

// change is one change of a configuration (KIP-339).
type change struct {
	name  string
	op    kmsg.IncrementalAlterConfigOp
	value *string
}

// alterConfigs makes the changes to each resource, all or none of them.
// Topics are altered together, which is what there may be many of.
func (s *Server) alterConfigs(r *request, dryRun bool, all []alteration) []error {
	errs := make([]error, len(all))
	var topics []catalog.Edit
	var at []int
	seen := map[string]bool{}
	for i, a := range all {
		id := fmt.Sprint(a.kind, " ", a.name)
		c, err := s.alterable(r, a)
		switch {
		case seen[id]:
			err = fmt.Errorf("%w: the resource is in the request twice", kerr.InvalidRequest)
		case err != nil:
		case a.kind == kmsg.ConfigResourceTypeTopic:
			topics, at = append(topics, catalog.Edit{Topic: a.name, Edit: c.editor(a)}), append(at, i)
		default:
			err = c.edit(dryRun, c.editor(a))
		}
		seen[id], errs[i] = true, err
	}
	for i, err := range s.Catalog.EditAll(topics, dryRun) {
		errs[at[i]] = err
	}
	return errs
}

func (s *Server) alterable(r *request, a alteration) (configurable, error) {
	if err := s.mayConfigure(r, true, a.kind, a.name); err != nil {
		return configurable{}, err
	}
	seen := map[string]bool{}
	for _, ch := range a.changes {
		if seen[ch.name] {
			return configurable{}, fmt.Errorf("%w: %s is in the request twice", kerr.InvalidRequest, ch.name)
		}
		seen[ch.name] = true
	}
	return s.configurable(a.kind, a.name)
}

func (c configurable) editor(a alteration) func(map[string]string) error {
	return func(config map[string]string) error {
		if a.replace {
			clear(config)
		}
		for _, ch := range a.changes {
			if err := c.apply(config, ch); err != nil {
				return err
			}
		}
		return nil
	}
}

func (c configurable) apply(config map[string]string, ch change) error {
	if ch.op == kmsg.IncrementalAlterConfigOpDelete {
		delete(config, ch.name)
		return nil
	}
	if ch.value == nil {
		return fmt.Errorf("%w: %s has no value", kerr.InvalidRequest, ch.name)
	}
	if ch.op == kmsg.IncrementalAlterConfigOpSet {
		config[ch.name] = *ch.value
		return nil
	}
	return c.applyToList(config, ch)
}

// applyToList appends words to a list or takes them away. A list that was not
// set for the resource itself is the one in force.
func (c configurable) applyToList(config map[string]string, ch change) error {
	i := slices.IndexFunc(c.defs, func(d catalog.Def) bool { return d.Name == ch.name })
	if i < 0 || c.defs[i].Type != catalog.List {
		return fmt.Errorf("%w: %s is not a list", kerr.InvalidConfig, ch.name)
	}
	now, set := config[ch.name]
	if values := c.settings(c.defs[i]); !set && len(values) > 0 {
		now = values[0].Value
	}
	words := slices.DeleteFunc(catalog.SplitList(now), func(w string) bool { return w == "" })
	for _, w := range catalog.SplitList(*ch.value) {
		at := slices.Index(words, w)
		switch {
		case ch.op == kmsg.IncrementalAlterConfigOpAppend && at < 0:
			words = append(words, w)
		case ch.op == kmsg.IncrementalAlterConfigOpSubtract && at >= 0:
			words = slices.Delete(words, at, at+1)
		case ch.op != kmsg.IncrementalAlterConfigOpAppend && ch.op != kmsg.IncrementalAlterConfigOpSubtract:
			return fmt.Errorf("%w: unknown operation %d on %s", kerr.InvalidRequest, ch.op, ch.name)
		}
	}
	config[ch.name] = catalog.JoinList(words)
	return nil
}
