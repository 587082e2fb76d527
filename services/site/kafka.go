package site

import (
	"net"
	"strconv"
	"strings"
)

// Limits of Kafka (org.apache.kafka.common.internals.Topic) and, for the
// partitions, of what one box can hold open.
const (
	maxTopicName  = 249
	maxPartitions = 10000
	topicChars    = lower + upper + digits + "._-"
)

func topicName(s string) fault {
	switch bad := notIn(s, topicChars); {
	case bad != "":
		f := faultf("%q has %q; a topic's name has letters, digits, dots, underscores and hyphens", shorten(s), bad)
		if better := strings.NewReplacer("/", ".", " ", "-").Replace(s); notIn(better, topicChars) == "" {
			f.hint = better
		}
		return f
	case s == "." || s == "..":
		return faultf("a topic cannot be named %q", s)
	case len(s) > maxTopicName:
		return faultf("has %d characters, the most is %d", len(s), maxTopicName)
	}
	return fault{}
}

// Address is where the box itself reaches its broker, host:port: by the loopback
// address, unless Listen names another one.
func (b Broker) Address() string {
	host, port, err := net.SplitHostPort(b.Listen)
	if ip := net.ParseIP(host); err != nil || host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// Matches says whether a pattern of a profile, a name or the start of one
// before a *, takes a name: of a topic, or of a group.
func Matches(pattern, name string) bool {
	start, wild := strings.CutSuffix(pattern, "*")
	return pattern == name || wild && strings.HasPrefix(name, start)
}

// topicMatch is a topic's name, or the start of one before a *.
func topicMatch(s string) fault {
	start, wild := strings.CutSuffix(s, "*")
	if strings.Contains(start, "*") {
		return faultf("%q: * may only stand at the end", shorten(s))
	}
	if wild {
		return topicPrefix(start)
	}
	return topicName(s)
}

// topicPrefix is the start of a topic's name; it may be empty.
func topicPrefix(s string) fault {
	if s == "" || s == "." || s == ".." {
		return fault{}
	}
	return topicName(s)
}

// share is a part of a whole, such as 80%.
func share(s string) fault {
	digits, percent := strings.CutSuffix(s, "%")
	n, err := strconv.Atoi(digits)
	if err == nil && percent && n >= 1 && n <= 100 && digits == strconv.Itoa(n) {
		return fault{}
	}
	f := faultf("want a share from 1%% to 100%%, got %q", shorten(s))
	if err == nil && !percent && n >= 1 && n <= 100 {
		f.hint = strconv.Itoa(n) + "%"
	}
	return f
}
