package meta

import (
	"maps"
	"slices"
)

// Changes of this file.
const (
	kindConfig   kind = 16 // resourceConfig: replaces a resource's configuration
	kindFeatures kind = 17 // features
)

// Resource is what a configuration belongs to, other than a topic: a type, by
// Kafka's number of it (4 broker, 16 client metrics, 32 group), and a name.
// The broker's name is its id, or empty for all brokers.
type Resource struct {
	Type int8   `json:"t"`
	Name string `json:"n"`
}

type resourceConfig struct {
	Resource
	Config map[string]string `json:"c,omitempty"` // empty: there is none any more
}

// features are levels that a client has set (KIP-584).
type features struct {
	Levels map[string]int16 `json:"f"`
	Epoch  int64            `json:"e"` // how often they were set
}

// configs is the part of the state that this file keeps.
type configs struct {
	of       map[Resource]map[string]string
	features features
}

func (s *state) putConfig(c resourceConfig) {
	if len(c.Config) == 0 {
		delete(s.configs.of, c.Resource)
		return
	}
	if s.configs.of == nil {
		s.configs.of = map[Resource]map[string]string{}
	}
	s.configs.of[c.Resource] = c.Config
}

func (s *state) snapshotConfigs(emit func([]byte)) {
	for _, r := range sortedResources(s.configs.of) {
		emit(encode(kindConfig, resourceConfig{r, s.configs.of[r]}))
	}
	if s.configs.features.Epoch > 0 {
		emit(encode(kindFeatures, s.configs.features))
	}
}

func sortedResources(m map[Resource]map[string]string) []Resource {
	return slices.SortedFunc(maps.Keys(m), func(a, b Resource) int {
		if a.Type != b.Type {
			return int(a.Type) - int(b.Type)
		}
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
}

// SetConfig replaces the configuration of a resource; nil removes it.
func (st *Store) SetConfig(r Resource, config map[string]string) error {
	return st.j.Append(encode(kindConfig, resourceConfig{r, config}))
}

// ConfigOf is a resource's configuration. It must not be changed.
func (st *Store) ConfigOf(r Resource) map[string]string {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	return st.s.configs.of[r]
}

// Configured are the resources that have a configuration, by type and name.
func (st *Store) Configured() []Resource {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	return sortedResources(st.s.configs.of)
}

// SetFeatures sets the levels of all features whose level is not the newest.
func (st *Store) SetFeatures(levels map[string]int16) error {
	_, epoch := st.Features()
	return st.j.Append(encode(kindFeatures, features{levels, epoch + 1}))
}

// Features are the levels that were set, and how often. The map must not be
// changed.
func (st *Store) Features() (levels map[string]int16, epoch int64) {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	return st.s.configs.features.Levels, st.s.configs.features.Epoch
}
