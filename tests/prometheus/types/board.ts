// A dashboard as JSON: Grafana's own types, an enum being the text or number that stands for it, and every
// panel with the options of its kind.
import type { Dashboard, FieldConfig, Panel, RowPanel, VariableModel } from '@grafana/schema';
import type { Options as BarGauge } from '@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen';
import type { Options as Heatmap, FieldConfig as HeatmapField } from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type { Options as Stat } from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type { Options as Table, FieldConfig as TableField } from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type { Options as TimeSeries, FieldConfig as TimeSeriesField } from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

type Plain<T> = T extends string
  ? `${T}`
  : T extends number | boolean | null | undefined
    ? T extends number ? number : T
    : T extends Array<infer Item>
      ? Array<Plain<Item>>
      : T extends object
        ? { [Key in keyof T]: Plain<T[Key]> }
        : T;

interface Source {
  type: 'prometheus';
  uid: '${datasource}';
}

interface Target {
  refId: string;
  datasource: Source;
  expr: string;
  legendFormat: string;
  format: 'time_series' | 'table' | 'heatmap';
  instant: boolean;
  range: boolean;
  exemplar: boolean;
}

type Unit =
  | 'bool_yes_no' | 'bytes' | 'currencyUSD' | 'none' | 'ops' | 'percentunit' | 's' | 'short';

type Kind<Type extends string, Options, Custom> = Omit<
  Plain<Panel>, 'type' | 'options' | 'fieldConfig' | 'targets' | 'datasource'
> & {
  type: Type;
  id: number;
  title: string;
  description: string;
  datasource: Source;
  targets: Target[];
  options: Partial<Plain<Options>>;
  fieldConfig: {
    defaults: Omit<Plain<FieldConfig>, 'custom' | 'unit'> & {
      unit: Unit;
      custom: Partial<Plain<Custom>>;
    };
    overrides: never[];
  };
};

type None = Record<string, never>;
type Shown =
  | Kind<'timeseries', TimeSeries, TimeSeriesField>
  | Kind<'stat', Stat, None>
  | Kind<'bargauge', BarGauge, None>
  | Kind<'heatmap', Heatmap, HeatmapField>
  | Kind<'table', Table, TableField>;

type Row = Omit<Plain<RowPanel>, 'panels'> & { type: 'row'; panels: Shown[] };

interface Mark {
  name: string;
  datasource: Source;
  enable: boolean;
  iconColor: string;
  expr: string;
  step: string;
  titleFormat: string;
  textFormat: string;
}

// what a query variable is shown as in its editor; Grafana saves it, its schema leaves it out
type Variable = Plain<VariableModel> & { definition?: string };

export type Board = Omit<Plain<Dashboard>, 'panels' | 'annotations' | 'templating'> & {
  uid: string;
  title: string;
  panels: Array<Shown | Row>;
  annotations: { list: Mark[] };
  templating: { list: Variable[] };
};
