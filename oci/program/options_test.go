package program

import (
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseMountOptions(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want MountOptions
		err  bool
	}{
		{in: "ro,nosuid", want: MountOptions{Set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID}},
		{in: "ro,rw", want: MountOptions{Clear: unix.MOUNT_ATTR_RDONLY}},
		{in: "rro,rnoexec", want: MountOptions{RecursiveSet: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOEXEC}},
		{in: "rbind,rslave", want: MountOptions{Bind: true, RecursiveBind: true, Propagation: unix.MS_SLAVE, RecursivePropagation: true}},
		{in: "strictatime", want: MountOptions{Set: unix.MOUNT_ATTR_STRICTATIME, Clear: unix.MOUNT_ATTR__ATIME}},
		{in: "relatime", want: MountOptions{Clear: unix.MOUNT_ATTR__ATIME}},
		{in: "noatime,relatime", want: MountOptions{Clear: unix.MOUNT_ATTR__ATIME}},
		{in: "mode=755,newinstance", want: MountOptions{Data: []string{"mode=755", "newinstance"}}},
		{in: "ridmap", want: MountOptions{IDMap: true, RecursiveIDMap: true}},
		{in: "private,rshared", err: true},
		{in: "rro,rrw", want: MountOptions{RecursiveClear: unix.MOUNT_ATTR_RDONLY}},
	} {
		got, err := ParseMountOptions(strings.Split(tc.in, ","))
		if (err != nil) != tc.err {
			t.Errorf("%s: %v", tc.in, err)
			continue
		}
		if got.Set != tc.want.Set || got.Clear != tc.want.Clear || got.RecursiveSet != tc.want.RecursiveSet || got.RecursiveClear != tc.want.RecursiveClear ||
			got.Propagation != tc.want.Propagation || got.RecursivePropagation != tc.want.RecursivePropagation || got.Bind != tc.want.Bind ||
			got.RecursiveBind != tc.want.RecursiveBind || got.IDMap != tc.want.IDMap || strings.Join(got.Data, ",") != strings.Join(tc.want.Data, ",") {
			t.Errorf("%s: %+v, want %+v", tc.in, got, tc.want)
		}
	}
}

func TestMountOptionsBelow(t *testing.T) {
	for in, want := range map[string]MountOptions{
		"rbind,rslave,ro,nosuid": {Propagation: unix.MS_SLAVE},
		"rbind,rprivate,rro":     {Propagation: unix.MS_PRIVATE, RecursiveSet: unix.MOUNT_ATTR_RDONLY},
		"rbind,shared,rrw":       {Propagation: unix.MS_PRIVATE, RecursiveClear: unix.MOUNT_ATTR_RDONLY},
	} {
		o, err := ParseMountOptions(strings.Split(in, ","))
		if err != nil {
			t.Fatal(err)
		}
		if got := o.Below(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", in, got, want)
		}
	}
}
