package imagestore

import (
	"sync"
	"sync/atomic"

	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/imagestore/project"
)

// catalog is what the store has: the records, and what is on its way to be one.
type catalog struct {
	*dirs
	cfg Config
	log logrus.FieldLogger
	db  *database
	// projects count what writable layers of user namespaces take; nil: nobody does, for uncounted.
	projects  *project.Projects
	uncounted error
	// format is what new layers are made as: formatDirectory, formatErofs. unfit: why they aren't files; nil: they are, or needn't be.
	format string
	unfit  error

	// commit orders the writers of db. It is taken before mu, and held over disk waits.
	commit sync.Mutex

	// mu guards what follows, for moments.
	mu        sync.Mutex
	records   map[string]*imageRecord
	images    map[string]*Image
	layers    map[string]*layerRecord
	unpacking map[string]*unpacking
	held      map[string]int // layers that a running pull needs, by chain ID
	snapshots map[string]*snapshot
	suspect   map[string]bool // layers that were found damaged: the next pull makes them anew

	view atomic.Pointer[view]
}

// Image finds an image by its id, the beginning of its id, or a reference: tag, no tag (":latest"), digest. Errors: ErrNotFound,
// ErrInvalidReference.
func (cat *catalog) Image(ref string) (*Image, error) { return cat.view.Load().find(ref) }

// Images lists all images by id. The caller must not change the slice.
func (cat *catalog) Images() []*Image { return cat.view.Load().images }

// publish lets readers see what writers have done. Under mu.
func (cat *catalog) publish() { cat.view.Store(newView(cat.images)) }
