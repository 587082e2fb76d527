package server

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/catalog"
)

// DescribeConfigs: the configuration of topics, of the broker and of groups,
// with where each value comes from.
//
// There are no client metrics and no log levels to configure: those resources
// are empty.
var describeConfigsAPI = api{key: kmsg.DescribeConfigs, min: 1, max: 4, handle: typed(handleDescribeConfigs)}

func handleDescribeConfigs(s *Server, _ context.Context, r *request, req *kmsg.DescribeConfigsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
	type resource struct {
		kind kmsg.ConfigResourceType
		name string
	}
	req.Resources = once(req.Resources, func(r *kmsg.DescribeConfigsRequestResource) resource {
		return resource{r.ResourceType, r.ResourceName}
	})
	return &configsAnswer{DescribeConfigsResponse: *resp, resources: len(req.Resources), describe: func(i int) kmsg.DescribeConfigsResponseResource {
		rr := req.Resources[i]
		out := kmsg.NewDescribeConfigsResponseResource()
		out.ResourceType, out.ResourceName = rr.ResourceType, rr.ResourceName
		err := s.mayConfigure(r, false, rr.ResourceType, rr.ResourceName)
		if err == nil {
			out.Configs, err = s.describeConfigs(req, rr)
		}
		out.ErrorCode, out.ErrorMessage = code(err), message(err)
		return out
	}}
}

// configsAnswer is a response whose resources are made one by one while it is
// encoded: those of ten thousand topics together would take more memory than
// the whole broker.
type configsAnswer struct {
	kmsg.DescribeConfigsResponse // without resources
	resources                    int
	describe                     func(i int) kmsg.DescribeConfigsResponseResource
}

// AppendTo encodes the response: throttle time, array of resources, tags.
func (a *configsAnswer) AppendTo(dst []byte) []byte {
	const throttle = 4
	lengthSize, tags := 4, 0 // of an array of one element
	dst = binary.BigEndian.AppendUint32(dst, uint32(a.ThrottleMillis))
	if a.IsFlexible() {
		lengthSize, tags = 1, 1
		dst = binary.AppendUvarint(dst, uint64(a.resources)+1)
	} else {
		dst = binary.BigEndian.AppendUint32(dst, uint32(a.resources))
	}
	one := kmsg.DescribeConfigsResponse{Version: a.Version}
	var b []byte
	for i := range a.resources {
		one.Resources = append(one.Resources[:0], a.describe(i))
		b = one.AppendTo(b[:0])
		dst = append(dst, b[throttle+lengthSize:len(b)-tags]...)
	}
	return append(dst, make([]byte, tags)...)
}

func (s *Server) describeConfigs(req *kmsg.DescribeConfigsRequest, rr kmsg.DescribeConfigsRequestResource) ([]kmsg.DescribeConfigsResponseResourceConfig, error) {
	c, err := s.configurable(rr.ResourceType, rr.ResourceName)
	if err != nil {
		return nil, err
	}
	var out []kmsg.DescribeConfigsResponseResourceConfig
	for i := range c.defs {
		d := &c.defs[i]
		if rr.ConfigNames != nil && !slices.Contains(rr.ConfigNames, d.Name) {
			continue
		}
		if values := c.settings(*d); len(values) > 0 {
			out = append(out, describeConfig(d, values, req))
		}
	}
	return out, nil
}

func describeConfig(d *catalog.Def, values []catalog.Setting, req *kmsg.DescribeConfigsRequest) kmsg.DescribeConfigsResponseResourceConfig {
	c := kmsg.NewDescribeConfigsResponseResourceConfig()
	c.Name, c.Value, c.Source = d.Name, &values[0].Value, kmsg.ConfigSource(values[0].Origin)
	c.ConfigType, c.ReadOnly = kmsg.ConfigType(d.Type), d.ReadOnly
	if req.IncludeDocumentation {
		c.Documentation = &d.Doc
	}
	if !req.IncludeSynonyms {
		return c
	}
	for i := range values {
		v := &values[i]
		c.ConfigSynonyms = append(c.ConfigSynonyms, kmsg.DescribeConfigsResponseResourceConfigConfigSynonym{
			Name: v.Name, Value: &v.Value, Source: kmsg.ConfigSource(v.Origin),
		})
	}
	return c
}

// mayConfigure asks whether the client may see, or alter, a configuration.
func (s *Server) mayConfigure(r *request, alter bool, kind kmsg.ConfigResourceType, name string) error {
	op := kmsg.ACLOperationDescribeConfigs
	if alter {
		op = kmsg.ACLOperationAlterConfigs
	}
	switch kind {
	case kmsg.ConfigResourceTypeTopic:
		return s.refused(r, op, kmsg.ACLResourceTypeTopic, name)
	case kmsg.ConfigResourceTypeGroupConfig:
		return s.refused(r, op, kmsg.ACLResourceTypeGroup, name)
	}
	if err := s.refused(r, op, kmsg.ACLResourceTypeCluster, clusterName); err != nil {
		return fmt.Errorf("%w: configurations of the broker", err)
	}
	return nil
}
