package compose

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs-aws/ipfs-aws/internal/local/localca"
)

// Blockstores that the deployment can be started with.
var Blockstores = []string{"s3", "efs"}

// Deployment says what to start.
type Deployment struct {
	Files       string // folder of compose.yaml
	Dir         string // see the package's comment
	Project     string // the name of the deployment, for Docker
	Version     string // tag of the images
	Blockstore  string // one of Blockstores
	GatewayPort int    // on 127.0.0.1
	APIPort     int
	// Timeout bounds the wait for the front doors once the containers are up.
	Timeout time.Duration
	Out     io.Writer // what compose says
}

// Doors are the two front doors, and how to get in.
type Doors struct {
	Gateway, API   string // URLs
	CA             string // path of the authority's certificate
	User, Password string
}

// Command is a call of compose for the deployment, such as "up", "-d".
func (d *Deployment) Command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	if !slices.Contains(Blockstores, d.Blockstore) {
		return nil, fmt.Errorf("the blockstore %q is none of %s", d.Blockstore, strings.Join(Blockstores, ", "))
	}
	dir, err := filepath.Abs(d.Dir)
	if err != nil {
		return nil, fmt.Errorf("find the folder %s: %w", d.Dir, err)
	}
	program, err := program(ctx)
	if err != nil {
		return nil, err
	}
	call := append(program, "--project-name", d.Project, "--file", filepath.Join(d.Files, "compose.yaml"))
	if d.Blockstore == "efs" {
		call = append(call, "--file", filepath.Join(d.Files, "compose.efs.yaml"))
	}
	call = append(call, args...)
	cmd := exec.CommandContext(ctx, call[0], call[1:]...)
	cmd.Env = append(os.Environ(), "STATE_DIR="+dir, "VERSION="+d.Version,
		"GATEWAY_PORT="+strconv.Itoa(d.GatewayPort), "API_PORT="+strconv.Itoa(d.APIPort))
	cmd.Stdout, cmd.Stderr = d.Out, d.Out
	return cmd, nil
}

// program finds compose.
func program(ctx context.Context) ([]string, error) {
	if exec.CommandContext(ctx, "docker", "compose", "version").Run() == nil {
		return []string{"docker", "compose"}, nil
	}
	if _, err := exec.LookPath("docker-compose"); err == nil {
		return []string{"docker-compose"}, nil
	}
	return nil, errors.New("there is neither `docker compose` nor docker-compose: install Docker with its compose plugin")
}

func (d *Deployment) run(ctx context.Context, args ...string) error {
	cmd, err := d.Command(ctx, args...)
	if err != nil {
		return err
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("compose %s: %w", args[0], err)
	}
	return nil
}

// Up starts what does not run, in order and each when what it needs is healthy, and
// returns when both front doors serve.
func (d *Deployment) Up(ctx context.Context) (*Doors, error) {
	if err := Prepare(d.Dir); err != nil {
		return nil, err
	}
	err := d.run(ctx, "up", "--detach")
	var doors *Doors
	if err == nil {
		if doors, err = d.Doors(); err == nil {
			err = d.await(ctx, doors)
		}
	}
	if err != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("%w; the last each container said:\n%s", err, d.last(ctx))
	}
	return doors, err
}

// last is the end of every log.
func (d *Deployment) last(ctx context.Context) string {
	cmd, err := d.Command(ctx, "logs", "--no-color", "--tail", "4")
	if err != nil {
		return err.Error()
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(&out, err)
	}
	return out.String()
}

// Down ends everything; with its volumes, the data goes as well.
func (d *Deployment) Down(ctx context.Context, volumes bool) error {
	args := []string{"down", "--remove-orphans"}
	if volumes {
		args = append(args, "--volumes")
	}
	return d.run(ctx, args...)
}

// Doors tells how to reach what has been started.
func (d *Deployment) Doors() (*Doors, error) {
	in, err := Secret(d.Dir, credentials)
	if err != nil {
		return nil, err
	}
	user, password, _ := strings.Cut(in, ":")
	return &Doors{
		Gateway: "https://127.0.0.1:" + strconv.Itoa(d.GatewayPort), API: "https://127.0.0.1:" + strconv.Itoa(d.APIPort),
		CA: filepath.Join(d.Dir, tlsDir, localca.CAFile), User: user, Password: password,
	}, nil
}

// Client trusts the authority of the deployment and nobody else.
func (d *Doors) Client() (*http.Client, error) {
	pem, err := os.ReadFile(d.CA)
	if err != nil {
		return nil, fmt.Errorf("read the authority of the deployment: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s is no certificate: remove it, and start again", d.CA)
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 64}}, nil
}

// await asks both doors until they serve: the gateway for a block that is inlined in
// its CID, the API for the peer's name.
func (d *Deployment) await(ctx context.Context, doors *Doors) error {
	client, err := doors.Client()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	for _, url := range []string{doors.Gateway + "/ipfs/bafkqaaa", doors.API + "/id"} {
		for {
			err := ask(ctx, client, url, doors)
			if err == nil {
				break
			}
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("%s does not serve after %s: %w", url, d.Timeout, err)
			}
		}
	}
	return nil
}

func ask(ctx context.Context, client *http.Client, url string, doors *Doors) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.SetBasicAuth(doors.User, doors.Password)
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", res.Status)
	}
	return nil
}
