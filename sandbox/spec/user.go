package spec

import "io"

// User is who a container's processes run as, ids as seen inside the container.
type User struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"` // supplemental, with GID, sorted
	Home   string   `json:"home,omitempty"`   // from the image's passwd; "" when it has none
}

// ResolveUser finds who a container runs as: sec's user, or imageUser (the
// image config's User), or root. passwd and group are the image's files, nil when it has none.
func ResolveUser(passwd, group io.Reader, sec *Security, imageUser string) (User, error) {
	return User{}, nil
}
