package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
)

// User is who a container's processes run as, ids as seen inside the container.
type User struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"` // supplemental, with GID, sorted
	Home   string   `json:"home,omitempty"`   // from the image's passwd; "" when it has none
}

// maxUserFile bounds what is read of an image's passwd and group files, which
// may be anything that the image's author could think of.
const maxUserFile = 2 << 20

// maxID is the highest id that a container may run with. The kernel knows
// higher ones, but 32-bit programs take them for negative numbers, and parsers
// that wrap around made root of them (CVE-2024-40635).
const maxID = math.MaxInt32

// maxGroups is the kernel's NGROUPS_MAX.
const maxGroups = 65536

// ErrNoSuchUser says that an image's passwd or group file lacks a name.
var ErrNoSuchUser = errors.New("no such user or group in the image")

// ErrUserFile says that an image's passwd or group file cannot be used.
var ErrUserFile = errors.New("unusable passwd or group file in the image")

// ResolveUser finds who a container runs as: sec's user, or imageUser (the
// image config's User: "name", "uid", "name:group", …), or root. passwd and
// group are the image's files, nil when it has none. An id needs no entry in
// them; a name that has none is an ErrNoSuchUser.
//
// Groups are the primary one, those that sec names, and, with policy Merge,
// those which the group file gives to the user.
func ResolveUser(passwd, group io.Reader, sec *Security, imageUser string) (User, error) {
	passwdText, err := readUserFile("passwd", passwd)
	if err != nil {
		return User{}, err
	}
	groupText, err := readUserFile("group", group)
	if err != nil {
		return User{}, err
	}
	wanted, err := wantedUser(sec, imageUser)
	if err != nil {
		return User{}, err
	}
	found, err := user.GetExecUser(wanted, nil, bytes.NewReader(passwdText), bytes.NewReader(groupText))
	if err != nil {
		return User{}, userError(wanted, err)
	}
	var out User
	if out.UID, err = checkID("uid", found.Uid); err != nil {
		return User{}, err
	}
	if out.GID, err = checkID("gid", found.Gid); err != nil {
		return User{}, err
	}
	if strings.HasPrefix(found.Home, "/") && !strings.ContainsRune(found.Home, 0) {
		out.Home = found.Home
	}
	out.Groups, err = groupsOf(out, wanted, sec, passwdText, groupText)
	return out, err
}

// readUserFile reads an image's passwd or group file, up to a bound.
func readUserFile(name string, r io.Reader) ([]byte, error) {
	if r == nil {
		return nil, nil
	}
	text, err := io.ReadAll(io.LimitReader(r, maxUserFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s file: %w", name, err)
	}
	if len(text) > maxUserFile {
		return nil, fmt.Errorf("%w: %s is longer than %d bytes", ErrUserFile, name, maxUserFile)
	}
	return text, nil
}

// wantedUser is the "user:group" to look for.
func wantedUser(sec *Security, imageUser string) (string, error) {
	wanted := imageUser
	if sec.RunAsUsername != "" {
		wanted = sec.RunAsUsername
	}
	if sec.RunAsUser != nil {
		wanted = strconv.FormatInt(*sec.RunAsUser, 10)
	}
	if sec.RunAsGroup != nil {
		name, _, _ := strings.Cut(wanted, ":")
		wanted = name + ":" + strconv.FormatInt(*sec.RunAsGroup, 10)
	}
	if strings.ContainsAny(wanted, "\x00\n") {
		return "", fmt.Errorf("%w: %q", ErrNoSuchUser, wanted)
	}
	return wanted, nil
}

// userError puts an error of moby/sys/user in our words.
func userError(wanted string, err error) error {
	switch {
	case errors.Is(err, user.ErrNoPasswdEntries), errors.Is(err, user.ErrNoGroupEntries):
		return fmt.Errorf("%w: %q", ErrNoSuchUser, wanted)
	case errors.Is(err, user.ErrRange):
		return invalid("user", wanted, "ids must be from 0 to %d", maxID)
	default:
		return fmt.Errorf("%w: look up %q: %w", ErrUserFile, wanted, err)
	}
}

// checkID refuses an id that a container must not run with, such as one from a
// passwd line that wraps around to root.
func checkID(what string, id int) (uint32, error) {
	if id < 0 || id > maxID {
		return 0, fmt.Errorf("%w: %s %d is not from 0 to %d", ErrUserFile, what, id, maxID)
	}
	return uint32(id), nil
}

// groupsOf is the sorted list of u's groups.
func groupsOf(u User, wanted string, sec *Security, passwd, group []byte) ([]uint32, error) {
	groups := []uint32{u.GID}
	for _, g := range sec.SupplementalGroups {
		if g < 0 || g > maxID {
			return nil, invalid("linux.security_context.supplemental_groups", g, "must be from 0 to %d", maxID)
		}
		groups = append(groups, uint32(g))
	}
	if sec.SupplementalGroupsPolicy == GroupsMerge {
		image, err := imageGroups(u, wanted, passwd, group)
		if err != nil {
			return nil, err
		}
		groups = append(groups, image...)
	}
	slices.Sort(groups)
	groups = slices.Compact(groups)
	if len(groups) > maxGroups {
		return nil, fmt.Errorf("%w: user %q is in %d groups, more than the kernel's %d", ErrUserFile, wanted, len(groups), maxGroups)
	}
	return groups, nil
}

// imageGroups are the groups that list the user's name as a member. The name
// is that of the first passwd entry with the user's name or uid, as for the
// primary group; a user without one is in no group.
func imageGroups(u User, wanted string, passwd, group []byte) ([]uint32, error) {
	name, _, _ := strings.Cut(wanted, ":")
	users, err := user.ParsePasswdFilter(bytes.NewReader(passwd), func(e user.User) bool {
		return e.Uid == int(u.UID) && (e.Name == name || isNumber(name))
	})
	if err != nil {
		return nil, fmt.Errorf("%w: passwd: %w", ErrUserFile, err)
	}
	if len(users) == 0 {
		return nil, nil
	}
	groups, err := user.ParseGroupFilter(bytes.NewReader(group), func(g user.Group) bool {
		return slices.Contains(g.List, users[0].Name)
	})
	if err != nil {
		return nil, fmt.Errorf("%w: group: %w", ErrUserFile, err)
	}
	var out []uint32
	for _, g := range groups {
		gid, err := checkID("gid", g.Gid)
		if err != nil {
			return nil, err
		}
		out = append(out, gid)
	}
	return out, nil
}

// isNumber says whether name is an id, or empty, which stands for id 0.
func isNumber(name string) bool {
	_, err := strconv.Atoi(name)
	return name == "" || err == nil
}
