package server

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/catalog"
)

// DescribeConfigs: the configuration of topics, and the little of the
// broker's that tools ask for.
//
// Versions 1 to 4.
var describeConfigsAPI = api{key: kmsg.DescribeConfigs, min: 1, max: 4, handle: typed(handleDescribeConfigs)}

func handleDescribeConfigs(s *Server, _ context.Context, _ *request, req *kmsg.DescribeConfigsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
	for _, r := range req.Resources {
		out := kmsg.NewDescribeConfigsResponseResource()
		out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
		configs, err := s.configsOf(r.ResourceType, r.ResourceName)
		out.ErrorCode, out.ErrorMessage = code(err), message(err)
		for _, c := range configs {
			if r.ConfigNames != nil && !slices.Contains(r.ConfigNames, c.Name) {
				continue
			}
			if !req.IncludeSynonyms {
				c.ConfigSynonyms = nil
			}
			if !req.IncludeDocumentation {
				c.Documentation = nil
			}
			out.Configs = append(out.Configs, c)
		}
		resp.Resources = append(resp.Resources, out)
	}
	return resp
}

func (s *Server) configsOf(kind kmsg.ConfigResourceType, name string) ([]kmsg.DescribeConfigsResponseResourceConfig, error) {
	switch kind {
	case kmsg.ConfigResourceTypeTopic:
		t := s.Catalog.Get(name)
		if t == nil {
			return nil, fmt.Errorf("%w: %s", catalog.ErrUnknown, name)
		}
		return topicConfigs(t), nil
	case kmsg.ConfigResourceTypeBroker:
		if name != "" && name != strconv.Itoa(NodeID) {
			return nil, fmt.Errorf("%w: the only broker is %d", kerr.InvalidRequest, NodeID)
		}
		return s.brokerConfigs(), nil
	}
	return nil, fmt.Errorf("%w: configurations are those of topics and of the broker", kerr.InvalidRequest)
}

func topicConfigs(t *catalog.Topic) []kmsg.DescribeConfigsResponseResourceConfig {
	var out []kmsg.DescribeConfigsResponseResourceConfig
	for _, d := range catalog.Defs {
		source := sourceOf(t, d.Name)
		c := config(d.Name, catalog.Value(t.Config, d.Name), source, kmsg.ConfigType(d.Type))
		c.ReadOnly = false
		c.Documentation = &d.Doc
		if source != kmsg.ConfigSourceDefaultConfig {
			c.ConfigSynonyms = append(c.ConfigSynonyms, synonym(d.Name, d.Default, kmsg.ConfigSourceDefaultConfig))
		}
		out = append(out, c)
	}
	return out
}

// sourceOf says whether a topic's configuration was set for it.
func sourceOf(t *catalog.Topic, name string) kmsg.ConfigSource {
	if _, ok := t.Config[name]; ok {
		return kmsg.ConfigSourceDynamicTopicConfig
	}
	return kmsg.ConfigSourceDefaultConfig
}

func (s *Server) brokerConfigs() []kmsg.DescribeConfigsResponseResourceConfig {
	static := kmsg.ConfigSourceStaticBrokerConfig
	return []kmsg.DescribeConfigsResponseResourceConfig{
		config("auto.create.topics.enable", strconv.FormatBool(s.AutoCreate), static, kmsg.ConfigTypeBoolean),
		config("default.replication.factor", "1", static, kmsg.ConfigTypeInt),
		config("node.id", strconv.Itoa(NodeID), static, kmsg.ConfigTypeInt),
		config("num.partitions", strconv.Itoa(defaultPartitions), static, kmsg.ConfigTypeInt),
		config("socket.request.max.bytes", strconv.Itoa(int(s.RequestBytes)), static, kmsg.ConfigTypeInt),
	}
}

func config(name, value string, source kmsg.ConfigSource, kind kmsg.ConfigType) kmsg.DescribeConfigsResponseResourceConfig {
	c := kmsg.NewDescribeConfigsResponseResourceConfig()
	c.Name, c.Value, c.Source, c.ConfigType, c.ReadOnly = name, &value, source, kind, true
	c.ConfigSynonyms = append(c.ConfigSynonyms, synonym(name, value, source))
	return c
}

func synonym(name, value string, source kmsg.ConfigSource) kmsg.DescribeConfigsResponseResourceConfigConfigSynonym {
	return kmsg.DescribeConfigsResponseResourceConfigConfigSynonym{Name: name, Value: &value, Source: source}
}
