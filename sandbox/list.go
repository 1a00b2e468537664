package sandbox

import "strings"

// Pod returns the pod with that id, or whose id alone begins so, and
// its containers, the oldest first: all as they were at one moment after the call
// began. Otherwise the error is ErrNotFound. It waits for nothing.
func (b *base) Pod(id string) (*PodInfo, []*ContainerInfo, error) {
	p, err := b.index.pod(id)
	if err != nil {
		return nil, nil, err
	}
	info, containers := p.shown()
	if info == nil { // removed since it was found
		return nil, nil, notFound("pod", id)
	}
	return info, containers, nil
}

func byAge(a, b *ContainerInfo) int { return a.CreatedAt.Compare(b.CreatedAt) }

// Pods lists the pods that f chooses, the oldest first. It waits for nothing.
func (b *base) Pods(f PodFilter) []*PodInfo {
	all := b.index.allPods()
	out := make([]*PodInfo, 0, len(all))
	for _, p := range all {
		if i := p.info.Load(); i != nil && f.matches(i) {
			out = append(out, i)
		}
	}
	return out
}

// Container returns the container with that id, or whose id alone begins so.
// Otherwise the error is ErrNotFound.
func (b *base) Container(id string) (*ContainerInfo, error) {
	c, err := b.index.container(id)
	if err != nil {
		return nil, err
	}
	i := c.info.Load()
	if i == nil { // removed since it was found
		return nil, notFound("container", id)
	}
	return i, nil
}

// Containers lists the containers that f chooses, the oldest first. It waits for
// nothing.
func (b *base) Containers(f ContainerFilter) []*ContainerInfo {
	all := b.index.allContainers()
	out := make([]*ContainerInfo, 0, len(all))
	for _, c := range all {
		if i := c.info.Load(); i != nil && f.matches(i) {
			out = append(out, i)
		}
	}
	return out
}

func (f PodFilter) matches(i *PodInfo) bool {
	return strings.HasPrefix(i.ID, f.ID) && (f.State == nil || *f.State == i.State) && hasLabels(i.Config.Labels, f.Labels)
}

func (f ContainerFilter) matches(i *ContainerInfo) bool {
	return strings.HasPrefix(i.ID, f.ID) && strings.HasPrefix(i.PodID, f.PodID) &&
		(f.State == nil || *f.State == i.State) && hasLabels(i.Config.Labels, f.Labels)
}

// hasLabels says whether labels has all that are wanted.
func hasLabels(labels, wanted map[string]string) bool {
	for k, v := range wanted {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}
