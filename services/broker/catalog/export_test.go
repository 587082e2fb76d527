package catalog

import "github.com/waysideos/wayside/services/broker/meta"

func EncodeTopic(cluster string, t meta.Topic) ([]byte, error) {
	return encodeTopic(keptTopic{cluster, t})
}

func ParseTopic(name string, b []byte) (meta.Topic, error) {
	t, err := parseTopic(name, b)
	return t.Topic, err
}
