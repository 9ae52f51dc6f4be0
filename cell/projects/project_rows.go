package projects

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/jobs"
	"github.com/cellway/cellway/cell/resource"
	"github.com/cellway/cellway/cell/store"
)

const insertProjectSQL = `
	INSERT INTO projects.projects (tenant_id, id, name, description)
	VALUES ($1, $2, $3, $4)
	RETURNING id, name, description, version, created_at, updated_at`

func insertProject(ctx context.Context, tx *store.Tx, p NewProject) (Project, error) {
	id, err := resource.NewID("proj")
	if err != nil {
		return Project{}, err
	}
	return resource.One[Project](ctx, tx, "project", insertProjectSQL, tx.Tenant, id, p.Name, resource.Or(p.Description, ""))
}

const selectProjectSQL = `
	SELECT id, name, description, version, created_at, updated_at
	  FROM projects.projects
	 WHERE tenant_id = $1 AND id = $2`

func findProject(ctx context.Context, tx *store.Tx, id string) (Project, error) {
	return resource.One[Project](ctx, tx, "project", selectProjectSQL, tx.Tenant, id)
}

// lockProject holds the project against every other change until the end of the
// transaction, tasks that are about to be added included, and checks If-Match.
func lockProject(ctx context.Context, tx *store.Tx, id string, ifMatch *string) error {
	p, err := resource.One[Project](ctx, tx, "project", selectProjectSQL+" FOR UPDATE", tx.Tenant, id)
	if err != nil {
		return err
	}
	return resource.CheckMatch(ifMatch, p.Version)
}

const selectProjectsSQL = `
	SELECT id, name, description, version, created_at, updated_at
	  FROM projects.projects
	 WHERE tenant_id = $1 AND id > $2
	 ORDER BY id
	 LIMIT $3`

func listProjects(ctx context.Context, tx *store.Tx, after string, limit int) ([]Project, error) {
	rows, err := tx.Query(ctx, selectProjectsSQL, tx.Tenant, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list projects: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[Project])
}

const updateProjectSQL = `
	UPDATE projects.projects
	   SET name = coalesce($3, name), description = coalesce($4, description),
	       version = version + 1, updated_at = now()
	 WHERE tenant_id = $1 AND id = $2
	RETURNING id, name, description, version, created_at, updated_at`

func updateProject(ctx context.Context, tx *store.Tx, id string, c ProjectChange) (Project, error) {
	return resource.One[Project](ctx, tx, "project", updateProjectSQL, tx.Tenant, id, c.Name, c.Description)
}

const (
	deleteTasksSQL   = `DELETE FROM projects.tasks WHERE tenant_id = $1 AND project_id = $2 RETURNING id, due_at IS NOT NULL`
	deleteProjectSQL = `DELETE FROM projects.projects WHERE tenant_id = $1 AND id = $2`
)

// deleteProject removes a project that lockProject holds, its tasks and their alarms.
func deleteProject(ctx context.Context, tx *store.Tx, id string) error {
	rows, err := tx.Query(ctx, deleteTasksSQL, tx.Tenant, id)
	if err != nil {
		return fmt.Errorf("delete tasks: %w", err)
	}
	var task string
	var hasAlarm bool
	var alarms []string
	if _, err := pgx.ForEachRow(rows, []any{&task, &hasAlarm}, func() error {
		if hasAlarm {
			alarms = append(alarms, task)
		}
		return nil
	}); err != nil {
		return fmt.Errorf("delete tasks: %w", err)
	}
	if err := jobs.Cancel(ctx, tx, taskDueJob, alarms...); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, deleteProjectSQL, tx.Tenant, id); err != nil {
		return fmt.Errorf("delete project: %w", err)
	}
	return nil
}

const countTasksSQL = `
	SELECT count(*) FILTER (WHERE state = 'todo') AS todo,
	       count(*) FILTER (WHERE state = 'doing') AS doing,
	       count(*) FILTER (WHERE state = 'review') AS review,
	       count(*) FILTER (WHERE state = 'done') AS done
	  FROM projects.tasks
	 WHERE tenant_id = $1 AND project_id = $2`

func countTasks(ctx context.Context, tx *store.Tx, project string) (TaskCounts, error) {
	return resource.One[TaskCounts](ctx, tx, "project", countTasksSQL, tx.Tenant, project)
}
