package imagestore

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

var (
	imagesBucket = []byte("images")
	layersBucket = []byte("layers")
)

// imageRecord is an image in images.db, by its id.
type imageRecord struct {
	Tags     []string  `json:"tags,omitempty"`
	Digests  []string  `json:"digests,omitempty"`
	Config   []byte    `json:"config"` // as it came: its digest is the image's id
	Layers   []string  `json:"layers"` // chain IDs, the base first
	PulledAt time.Time `json:"pulled_at"`
}

// layerRecord is a layer in images.db, by its chain ID.
type layerRecord struct {
	DiffID digest.Digest `json:"diff_id"`
	// Blob is the compressed form, as it came.
	Blob     digest.Digest `json:"blob,omitempty"`
	BlobSize int64         `json:"blob_size,omitempty"`
	// Kept is what the blob takes here, where it was kept.
	Kept int64 `json:"kept,omitempty"`
	// Bytes and Inodes are what it takes here.
	Bytes  int64 `json:"bytes"`
	Inodes int64 `json:"inodes"`
	// TarSize is how long the layer's tar is; Origin tells whether it can be made again.
	TarSize int64 `json:"tar_size,omitempty"`
	Origin  bool  `json:"origin,omitempty"`
	// Opaque: the layers below are not to be seen.
	Opaque bool `json:"opaque,omitempty"`
	// Format is what the layer is here: formatDirectory, formatErofs.
	Format string `json:"format,omitempty"`
}

// database is images.db.
type database struct {
	bolt *bbolt.DB
	path string
}

// openDatabase takes the file's lock, and fails with ErrInUse when another process keeps it.
func openDatabase(path string) (*database, error) {
	bolt, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 500 * time.Millisecond, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("open %s: %w", path, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &database{bolt: bolt, path: path}, nil
}

func (d *database) close() error { return d.bolt.Close() }

// size is what the file takes on the disk.
func (d *database) size() int64 {
	info, err := os.Stat(d.path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// change is one transaction. A nil record deletes.
type change struct {
	images map[string]*imageRecord
	layers map[string]*layerRecord
}

func newChange() change {
	return change{images: map[string]*imageRecord{}, layers: map[string]*layerRecord{}}
}

func (c change) empty() bool { return len(c.images) == 0 && len(c.layers) == 0 }

// write returns when the change is on the disk as a whole, or with an error and nothing of it there. bbolt syncs.
func (d *database) write(c change) error {
	if c.empty() {
		return nil
	}
	err := d.bolt.Update(func(tx *bbolt.Tx) error {
		images, err := tx.CreateBucketIfNotExists(imagesBucket)
		if err != nil {
			return err
		}
		layers, err := tx.CreateBucketIfNotExists(layersBucket)
		if err != nil {
			return err
		}
		return errors.Join(putAll(images, c.images), putAll(layers, c.layers))
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", d.path, err)
	}
	return nil
}

func putAll[T any](bucket *bbolt.Bucket, records map[string]*T) error {
	for key, record := range records {
		if record == nil {
			if err := bucket.Delete([]byte(key)); err != nil {
				return err
			}
			continue
		}
		value, err := json.Marshal(record)
		if err != nil {
			return err
		}
		if err := bucket.Put([]byte(key), value); err != nil {
			return err
		}
	}
	return nil
}

// read gives all records. One that can't be read is left out, with a warning: its image can be pulled again.
func (d *database) read(log logrus.FieldLogger) (images map[string]*imageRecord, layers map[string]*layerRecord, err error) {
	images, layers = map[string]*imageRecord{}, map[string]*layerRecord{}
	err = d.bolt.View(func(tx *bbolt.Tx) error {
		return errors.Join(getAll(tx.Bucket(imagesBucket), images, log), getAll(tx.Bucket(layersBucket), layers, log))
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", d.path, err)
	}
	return images, layers, nil
}

func getAll[T any](bucket *bbolt.Bucket, records map[string]*T, log logrus.FieldLogger) error {
	if bucket == nil {
		return nil
	}
	return bucket.ForEach(func(key, value []byte) error {
		record := new(T)
		if err := json.Unmarshal(value, record); err != nil {
			log.WithField("image", string(key)).WithError(err).Warn("image store: a record can't be read")
			return nil
		}
		records[string(key)] = record
		return nil
	})
}
