// Package clients drives Sarama and kafka-go against the broker at the
// address BROKER.
package clients

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// addr is where the broker is.
func addr(t *testing.T) string {
	t.Helper()
	a := os.Getenv("BROKER")
	if a == "" {
		t.Skip("BROKER is not set: TestSaramaAndKafkaGo of test/clients sets it")
	}
	return a
}

// topicOf is a topic's or group's name that no other test uses.
func topicOf(t *testing.T) string {
	return strings.NewReplacer("/", "-").Replace(t.Name())
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func span(a, b int) (all []string) {
	for i := a; i < b; i++ {
		all = append(all, fmt.Sprint(i))
	}
	return all
}
