package main

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/site"
)

// A profile that passes its check must not stop the broker: what the profile
// takes as topic configuration, the broker takes. Neither may import the
// other, so the two tables meet here.
func TestProfileAndBrokerAgreeOnTopicConfigs(t *testing.T) {
	var names []string
	for _, d := range catalog.Defs {
		names = append(names, d.Name)
	}
	if diff := cmp.Diff(names, site.TopicConfigs()); diff != "" {
		t.Errorf("names (-broker +profile):\n%s", diff)
	}
	values := []string{"-131073", "-131072", "-2", "-1", "0", "1", "2", "3", "4", "9", "10", "13", "14", "17", "18", "22", "23", "0.5", "1.5", "NaN", "2147483647", "2147483648", "1048588", "16777216", "16777217", "1073741824", "1073741825",
		"9223372036854775807", "9223372036854775808", "true", "delete", "compact", "compact,delete", "delete, compact", "delete,delete",
		"", "producer", "uncompressed", "gzip", "none", "CreateTime", "LogAppendTime", "True", "false", "sync", "write", "block", "drop-oldest", "drop-read"}
	for _, d := range catalog.Defs {
		for _, v := range append(values, d.Default) {
			profile := fmt.Sprintf("version: 1\nsite: a\nbroker: {topics: [{name: t, config: {%s: %q}}]}\n", d.Name, v)
			_, perr := site.Parse("f", []byte(profile))
			berr := catalog.CheckConfig(map[string]string{d.Name: v})
			if (perr == nil) != (berr == nil) {
				t.Errorf("%s = %q: profile says %v, broker says %v", d.Name, v, perr, berr)
			}
		}
	}
}
