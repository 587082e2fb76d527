//go:build linux

package supervise

import (
	"fmt"
	"os/user"
	"slices"
	"strconv"
)

// account is who a process runs as, in numbers.
type account struct {
	UID, GID int
	Groups   []int
	Name     string
	Home     string
}

// lookup finds user and groups in /etc/passwd and /etc/group. No user is
// root, no group is the user's own.
func lookup(userName, group string, further []string) (account, error) {
	a := account{Name: "root", Home: "/root"}
	if userName != "" {
		u, err := user.Lookup(userName)
		if err != nil {
			return a, fmt.Errorf("find user %s: %v", userName, err)
		}
		a.Name, a.Home = u.Username, u.HomeDir
		if a.UID, err = strconv.Atoi(u.Uid); err != nil {
			return a, fmt.Errorf("user %s has id %q: %v", userName, u.Uid, err)
		}
		if a.GID, err = strconv.Atoi(u.Gid); err != nil {
			return a, fmt.Errorf("user %s has group id %q: %v", userName, u.Gid, err)
		}
		if a.Groups, err = memberOf(u); err != nil {
			return a, err
		}
	}
	if group != "" {
		gid, err := lookupGroup(group)
		if err != nil {
			return a, err
		}
		a.GID = gid
	}
	for _, name := range further {
		gid, err := lookupGroup(name)
		if err != nil {
			return a, err
		}
		if !slices.Contains(a.Groups, gid) {
			a.Groups = append(a.Groups, gid)
		}
	}
	return a, nil
}

// memberOf lists the groups that name u as a member.
func memberOf(u *user.User) ([]int, error) {
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("find groups of user %s: %v", u.Username, err)
	}
	var out []int
	for _, id := range ids {
		gid, err := strconv.Atoi(id)
		if err != nil {
			return nil, fmt.Errorf("user %s is in group %q: %v", u.Username, id, err)
		}
		if id != u.Gid {
			out = append(out, gid)
		}
	}
	return out, nil
}

func lookupGroup(name string) (int, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("find group %s: %v", name, err)
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return 0, fmt.Errorf("group %s has id %q: %v", name, g.Gid, err)
	}
	return gid, nil
}
