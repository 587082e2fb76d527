package profile

import (
	"os/user"
	"slices"
	"strconv"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

// Reader is a folder of secret files, in memory, and who may read it: the
// members of a group, or one user and nobody else.
type Reader struct {
	Dir         string
	Group, User string // one of them
	// names are the files that it holds; nil for all of them.
	names func(*site.Profile) []string
}

// Readers are all of them. A service whose files are known by name has a folder
// of its own and is not in the group: the status page, which anybody asks, and
// the radio, which anybody speaks to, would give away the broker's keys.
var Readers = []Reader{
	{Dir: manifest.RunDir + "/secrets", Group: "secrets"},
	{Dir: manifest.RunDir + "/secrets-wifi", User: "wifi", names: func(p *site.Profile) []string {
		if p.Network.Wifi == nil {
			return nil
		}
		return p.Network.Wifi.Files()
	}},
	{Dir: manifest.RunDir + "/secrets-console", User: "console", names: only("api.token")},
	{Dir: manifest.RunDir + "/secrets-updater", User: "updater", names: only("update-ca.pem")},
}

func only(name string) func(*site.Profile) []string {
	return func(*site.Profile) []string { return []string{name} }
}

// Renewed are the readers who need other files under one profile than under
// another. The folders of the rest stay as they are: they are being read.
func Renewed(was, now *site.Profile) []Reader {
	var out []Reader
	for _, r := range Readers {
		if r.names != nil && !slices.Equal(r.names(was), r.names(now)) {
			out = append(out, r)
		}
	}
	return out
}

// Pick is what of files the reader gets under a profile. A name that is no file
// of the set is left out: it is a path, or missing, which its service tells.
func (r Reader) Pick(p *site.Profile, files map[string][]byte) map[string][]byte {
	if r.names == nil {
		return files
	}
	picked := map[string][]byte{}
	for _, name := range r.names(p) {
		if data, ok := files[name]; ok {
			picked[name] = data
		}
	}
	return picked
}

// Owner is who the folder and its files belong to.
func (r Reader) Owner() (uid, gid int, err error) {
	if r.User != "" {
		u, err := user.Lookup(r.User)
		if err != nil {
			return 0, 0, err
		}
		uid, err = strconv.Atoi(u.Uid)
		return uid, 0, err
	}
	g, err := user.LookupGroup(r.Group)
	if err != nil {
		return 0, 0, err
	}
	gid, err = strconv.Atoi(g.Gid)
	return 0, gid, err
}
