package rules

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const serverDir = "../../services/broker/server"

var apiLine = regexp.MustCompile(`(?m)^var (\w+) = api\{key: kmsg\.(\w+),`)

// TestKafkaAPIFiles: a file NN_name.go of the broker holds the API of key NN,
// and the table of APIs has it; a variable left out of it is no error to Go.
func TestKafkaAPIFiles(t *testing.T) {
	table, err := os.ReadFile(filepath.Join(serverDir, "api.go"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(serverDir, "[0-9][0-9]_*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("list the APIs: got %d files (%v)", len(files), err)
	}
	for _, file := range files {
		base := filepath.Base(file)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m := apiLine.FindSubmatch(text)
		if m == nil {
			t.Errorf("%s holds no line %q", base, "var xAPI = api{key: kmsg.X, ...")
			continue
		}
		variable, name := string(m[1]), string(m[2])
		number, _ := strconv.ParseInt(base[:2], 10, 16)
		if want := kmsg.NameForKey(int16(number)); name != want {
			t.Errorf("%s holds kmsg.%s: key %d is %s", base, name, number, want)
		}
		if !strings.Contains(string(table), variable+",") {
			t.Errorf("%s: %s is not in the table of api.go: no client will see it", base, variable)
		}
	}
}
