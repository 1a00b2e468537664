package spec

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

const passwdText = `root:x:0:0:root:/root:/bin/sh
app:x:1000:1000::/home/app:/bin/sh
twin:x:1000:2000::/home/twin:/bin/sh
daemon:x:1:1:daemon:relative:/bin/sh
nohome:x:7:7
big:x:4294967296:0::/:/bin/sh
biggid:x:8:4294967296::/:/bin/sh
negative:x:-1:0::/:/bin/sh
`

const groupText = `root:x:0:
wheel:x:10:root,app
image:x:50000:app,other
twins:x:60:twin
huge:x:99999999999:victim
`

func TestResolveUser(t *testing.T) {
	none := Security{}
	for name, c := range map[string]struct {
		sec   Security
		image string
		want  User
	}{
		"nothing":              {none, "", User{0, 0, []uint32{0, 10}, "/root"}},
		"image name":           {none, "app", User{1000, 1000, []uint32{10, 1000, 50000}, "/home/app"}},
		"image name and group": {none, "app:wheel", User{1000, 10, []uint32{10, 50000}, "/home/app"}},
		"image ids":            {none, "1234:99", User{1234, 99, []uint32{99}, ""}},
		"image group only":     {none, ":wheel", User{0, 10, []uint32{10}, "/root"}},
		"uid":                  {Security{RunAsUser: ptr(int64(1000))}, "daemon", User{1000, 1000, []uint32{10, 1000, 50000}, "/home/app"}},
		"uid without entry":    {Security{RunAsUser: ptr(int64(4711))}, "app", User{4711, 0, []uint32{0}, ""}},
		"uid and gid":          {Security{RunAsUser: ptr(int64(1000)), RunAsGroup: ptr(int64(77))}, "", User{1000, 77, []uint32{10, 77, 50000}, "/home/app"}},
		"name":                 {Security{RunAsUsername: "twin"}, "", User{1000, 2000, []uint32{60, 2000}, "/home/twin"}},
		"name and gid":         {Security{RunAsUsername: "app", RunAsGroup: ptr(int64(5))}, "x:y", User{1000, 5, []uint32{5, 10, 50000}, "/home/app"}},
		"supplemental":         {Security{RunAsUser: ptr(int64(1000)), SupplementalGroups: []int64{1234, 10}}, "", User{1000, 1000, []uint32{10, 1000, 1234, 50000}, "/home/app"}},
		"strict":               {Security{RunAsUser: ptr(int64(1000)), SupplementalGroups: []int64{1234}, SupplementalGroupsPolicy: GroupsStrict}, "", User{1000, 1000, []uint32{1000, 1234}, "/home/app"}},
		"relative home":        {none, "daemon", User{1, 1, []uint32{1}, ""}},
		"short line":           {none, "nohome", User{7, 7, []uint32{7}, ""}},
		"highest uid":          {none, "2147483647", User{math.MaxInt32, 0, []uint32{0}, ""}},
	} {
		got, err := ResolveUser(strings.NewReader(passwdText), strings.NewReader(groupText), &c.sec, c.image)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.UID != c.want.UID || got.GID != c.want.GID || got.Home != c.want.Home || !slices.Equal(got.Groups, c.want.Groups) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestResolveUserBad(t *testing.T) {
	for name, c := range map[string]struct {
		sec   Security
		image string
		want  error
	}{
		"no such name":       {Security{RunAsUsername: "ghost"}, "", ErrNoSuchUser},
		"no such image user": {Security{}, "ghost", ErrNoSuchUser},
		"no such group":      {Security{}, "app:ghosts", ErrNoSuchUser},
		"newline":            {Security{}, "a\nb", ErrNoSuchUser},
		// CVE-2024-40635: ids that wrap around to root's.
		"uid of 2^32":          {Security{}, "4294967296", ErrInvalid},
		"uid of 2^31":          {Security{}, "2147483648", ErrInvalid},
		"uid beyond 64 bits":   {Security{}, "99999999999999999999", ErrInvalid},
		"negative uid":         {Security{}, "-1", ErrInvalid},
		"gid of 2^32":          {Security{}, "0:4294967296", ErrInvalid},
		"wrapping uid by name": {Security{}, "big", ErrUserFile},
		"wrapping gid by name": {Security{}, "biggid", ErrUserFile},
		"negative by name":     {Security{}, "negative", ErrUserFile},
		"supplemental":         {Security{SupplementalGroups: []int64{1 << 32}}, "", ErrInvalid},
	} {
		got, err := ResolveUser(strings.NewReader(passwdText), strings.NewReader(groupText), &c.sec, c.image)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, error %v", name, got, err)
		}
	}
	// A group whose id wraps around, for a user that is in it.
	if _, err := ResolveUser(strings.NewReader("victim:x:5:5::/:"), strings.NewReader(groupText), &Security{}, "victim"); !errors.Is(err, ErrUserFile) {
		t.Errorf("wrapping group: %v", err)
	}
}

func TestResolveUserWithoutFiles(t *testing.T) {
	got, err := ResolveUser(nil, nil, &Security{RunAsUser: ptr(int64(5)), SupplementalGroups: []int64{6}}, "")
	if err != nil || got.UID != 5 || got.GID != 0 || !slices.Equal(got.Groups, []uint32{0, 6}) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := ResolveUser(nil, nil, &Security{RunAsUsername: "root"}, ""); !errors.Is(err, ErrNoSuchUser) {
		t.Errorf("a name without passwd: %v", err)
	}
}

func TestResolveUserHostileFiles(t *testing.T) {
	endless := func() *strings.Reader { return strings.NewReader(strings.Repeat("x:x:1:1::/:\n", maxUserFile/10)) }
	if _, err := ResolveUser(endless(), nil, &Security{}, "y"); !errors.Is(err, ErrUserFile) {
		t.Errorf("endless passwd: %v", err)
	}
	if _, err := ResolveUser(nil, endless(), &Security{}, "1"); !errors.Is(err, ErrUserFile) {
		t.Errorf("endless group: %v", err)
	}
	line := strings.NewReader(strings.Repeat("x", 1<<20))
	if _, err := ResolveUser(line, nil, &Security{}, "y"); !errors.Is(err, ErrUserFile) {
		t.Errorf("endless line: %v", err)
	}
	broken := errors.New("input/output error")
	if _, err := ResolveUser(iotest.ErrReader(broken), nil, &Security{}, ""); !errors.Is(err, broken) {
		t.Errorf("broken file: %v", err)
	}
}

// FuzzResolveUser: whatever an image's files hold, the ids that come out are ones
// that a container may have, and the groups are sorted, each once, with the primary one.
func FuzzResolveUser(f *testing.F) {
	f.Add(passwdText, groupText, "app", int64(-1))
	f.Add("a:b:c:d", "e:f:g:h,i", "a:e", int64(0))
	f.Add("\x00:::::\n:::", ":::,,,", ":", int64(7))
	f.Fuzz(func(t *testing.T, passwd, group, imageUser string, uid int64) {
		sec := &Security{SupplementalGroups: []int64{12}}
		if uid >= 0 && uid <= maxID {
			sec.RunAsUser = &uid
		}
		got, err := ResolveUser(strings.NewReader(passwd), strings.NewReader(group), sec, imageUser)
		if err != nil {
			return
		}
		if sec.RunAsUser != nil && got.UID != uint32(uid) {
			t.Errorf("asked for %d, got %d", uid, got.UID)
		}
		ids := append([]uint32{got.UID, got.GID}, got.Groups...)
		if slices.Max(ids) > maxID {
			t.Errorf("ids %v", ids)
		}
		if !slices.IsSorted(got.Groups) || len(slices.Compact(slices.Clone(got.Groups))) != len(got.Groups) || !slices.Contains(got.Groups, got.GID) || !slices.Contains(got.Groups, 12) {
			t.Errorf("groups %v of gid %d", got.Groups, got.GID)
		}
		if got.Home != "" && got.Home[0] != '/' {
			t.Errorf("home %q", got.Home)
		}
	})
}
