package topology

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Description tells a script all it needs to use a topology that is ready. It
// holds secrets.
type Description struct {
	Gateway  string            `json:"gateway"` // URL of the edge's gateway
	API      string            `json:"api"`     // URL of the edge's cluster REST API
	User     string            `json:"user"`
	Password string            `json:"password"`
	S3       *S3Description    `json:"s3"` // null unless the blockstore is s3
	Tasks    []TaskDescription `json:"tasks"`
}

// S3Description names the bucket. The keys are empty for a server that was
// given with --s3-endpoint.
type S3Description struct {
	Endpoint  string `json:"endpoint"`
	Bucket    string `json:"bucket"`
	AccessKey string `json:"accessKey"`
	SecretKey string `json:"secretKey"`
}

// TaskDescription is one task, past the edge.
type TaskDescription struct {
	Name    string `json:"name"`
	Repo    string `json:"repo"`
	Gateway string `json:"gateway"`
	RPC     string `json:"rpc"`
	API     string `json:"api"`
	PIDs    PIDs   `json:"pids"`
}

// PIDs are the processes of a task; 0 while one does not run.
type PIDs struct {
	IPFS    int `json:"ipfs"`
	Cluster int `json:"cluster"`
}

// Status is the content of status.json: the description, kept current when
// tasks are replaced, and the processes that belong to no task. The file
// exists from the moment that all is ready until the end; a supervisor that
// was killed leaves it behind.
type Status struct {
	Description
	Supervisor int    `json:"supervisor"`   // pid
	Edge       int    `json:"edge"`         // pid
	S3Server   int    `json:"s3Server"`     // pid, 0 without one
	Health     string `json:"health"`       // URL of the edge's readiness
	Replaced   int    `json:"replacements"` // how often a task was replaced
	Dir        string `json:"dir"`          // the folder, absolute
	Blockstore string `json:"blockstore"`   // as chosen
}

// ReadStatus returns the status of the topology that runs on dir.
func ReadStatus(dir string) (*Status, error) {
	raw, err := os.ReadFile(filepath.Join(dir, statusFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no local-cluster runs on %s: start one with `local-cluster up --dir %s`, or name its folder with --dir", dir, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("read the status of %s: %w", dir, err)
	}
	var s Status
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("read the status of %s: %w", dir, err)
	}
	return &s, nil
}
