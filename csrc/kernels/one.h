/* Every kernel for one ISA and one element type, and the table of them. */
#include "activation.h"
#include "block.h"
#include "dot.h"
#include "lanes.h"
#include "pack.h"
#include "panel.h"
#include "patches.h"
#include "depthwise_tile.h"
#include "depthwise_chain.h"
#include "depthwise.h"
#include "depthwise_3x3_tile.h"
#include "depthwise_3x3.h"
#include "depthwise_channels.h"
#include "pool_rows.h"
#include "pool.h"
#include "pool_at.h"
#include "soft_pool.h"
#include "strides.h"
#include "tile.h"
#include "unpool.h"
#include "winograd.h"
#include "winograd_pairs.h"
#include "winograd_phases.h"
#include "winograd_rows.h"

FC_TILES(FC_TILE_OF)
FC_PANELS(FC_PANEL_OF)
FC_DOTS(FC_DOT_OF)

#define FC_TILE_ENTRY(M, V) .tile[M - 1][V - 1] = FC_TILE(M, V),
#define FC_PANEL_ENTRY(M, V) .panel[M - 1][V - 1] = FC_PANEL(M, V),
#define FC_DOT_ENTRY(M, V) .dot[M - 1][V - 1] = FC_DOT(M, V),
#define FC_TABLE_NAME FN(fc_table)

#if FC_F64
static const fc_kernels_f64 FC_TABLE_NAME = {
#else
static const fc_kernels_f32 FC_TABLE_NAME = {
#endif
    .lanes = VL,
    .tile_m = FC_ISA_TILE_M,
    .tile_v = FC_ISA_TILE_V,
    FC_TILES(FC_TILE_ENTRY)
    .panel_v = FC_ISA_PANEL_V,
#if FC_BYTES == 64
    .panel_keep = FN(fc_panel_keep),
#endif
    FC_PANELS(FC_PANEL_ENTRY)
    .dot_m = FC_ISA_DOT_M,
    .dot_v = FC_ISA_DOT_V,
    FC_DOTS(FC_DOT_ENTRY)
    .gather_lanes = FN(fc_gather_lanes),
    .scatter_lanes = FN(fc_scatter_lanes),
    .pack = FN(fc_pack),
    .depthwise = FN(fc_depthwise),
    .depthwise_3x3 = FN(fc_depthwise_3x3),
    .depthwise_column = FN(fc_depthwise_column),
    .depthwise_channels = FN(fc_depthwise_channels),
    .depthwise_channels_weight = FN(fc_depthwise_channels_weight),
    .split_rows = FN(fc_split_rows),
    .merge_rows = FN(fc_merge_rows),
    .spread_rows = FN(fc_spread_rows),
    .winograd_weight = FC_WINOGRAD(weight),
    .winograd_input = FC_WINOGRAD(input),
    .winograd_output = FC_WINOGRAD(output),
#if !FC_F64
    .winograd_phases_weight = FN(fc_winograd_phases_weight),
    .winograd_phases_input = FN(fc_winograd_phases_input),
    .winograd_phases_output = FN(fc_winograd_phases_output),
#endif
#if FC_BYTES == 64 && !FC_F64
    .winograd_pairs = FN(fc_winograd_pairs),
#endif
    .winograd_rows_weight = FN(fc_winograd_rows_weight),
    .winograd_rows_input = FN(fc_winograd_rows_input),
    .winograd_rows_output = FN(fc_winograd_rows_output),
    .sum_lanes = FN(fc_sum_lanes),
    .negate = FN(fc_negate),
    .relu = FN(fc_relu),
    .sigmoid = FN(fc_sigmoid),
    .tanh = FN(fc_tanh),
    .relu_backward = FN(fc_relu_backward),
    .sigmoid_backward = FN(fc_sigmoid_backward),
    .tanh_backward = FN(fc_tanh_backward),
    .sum = FN(fc_sum),
    .max_pool = FN(fc_max_pool),
    .max_pool_at = FN(fc_max_pool_at),
    .avg_pool = FN(fc_avg_pool),
    .avg_unpool = FN(fc_avg_unpool),
    .max_unpool = FN(fc_max_unpool),
    .take = FN(fc_take),
    .give = FN(fc_give),
    .soft_pool = FN(fc_soft_pool),
    .soft_unpool = FN(fc_soft_unpool),
    .avg_pool_lanes = FN(fc_avg_pool_lanes),
    .max_pool_lanes = FN(fc_max_pool_lanes),
    .avg_unpool_lanes = {FN(fc_avg_unpool_identity), FN(fc_avg_unpool_relu),
                         FN(fc_avg_unpool_sigmoid), FN(fc_avg_unpool_tanh)},
    .max_unpool_lanes = {FN(fc_max_unpool_identity), FN(fc_max_unpool_relu),
                         FN(fc_max_unpool_sigmoid), FN(fc_max_unpool_tanh)},
};
