"""Instructions of the loops that multiply matrices, by sm_90's machine code: no change may add to them unseen.

Bounds are those of today's kernels, rounded up; whoever makes a loop shorter lowers its bound.  How long an instruction
takes is not known here, nor what a loop waits for.
"""

from __future__ import annotations

import pytest

from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.device import nvrtc
from tests.support import nvrtc_compiler, sass
from tests.support.nvrtc_compiler import NvrtcUnavailable, compile_cubin, resources

ARCH = 90
#: Of an H100 or H200 (CUDA C++ programming guide, technical specifications): multiprocessors, and of each of them.
MULTIPROCESSORS, REGISTERS, REGISTER_UNIT, MOST_WARPS = 132, 65536, 256, 64
ROWS = 70_000  # of MNIST


@pytest.fixture(scope="module", autouse=True)
def _tools():
    try:
        nvrtc_compiler.require_nvrtc()
        sass.nvdisasm()
    except NvrtcUnavailable as error:
        pytest.skip(str(error))


def variants(file):
    """Those of bytes and float32 read in vectors, and weekly all others: a disassembly takes half a second."""
    found = []
    for name, constants in nvrtc.variants():
        if name == file:
            often = constants["VECTOR"] and constants["ROW"] in ("unsigned char", "float")
            found.append(pytest.param(constants, id=name_of(constants), marks=() if often else pytest.mark.weekly))
    return found


def name_of(constants):
    return "-".join(f"{key}={value}".replace(" ", "_") for key, value in constants.items() if key != "CENTER")


def disassembly(file, constants):
    return sass.disassembly(compile_cubin(nvrtc.source(file, constants), ARCH, nvrtc.OPTIONS, file=f"{file}.cu").cubin)


def blocks_at_a_time(file, constants, threads):
    """Blocks that a multiprocessor holds by their registers; a warp takes whole units of them."""
    (row,) = resources(nvrtc.source(file, constants), ARCH, nvrtc.OPTIONS, file=f"{file}.cu")
    warps = threads // 32
    of_warp = -(-row.registers * 32 // REGISTER_UNIT) * REGISTER_UNIT
    return min(REGISTERS // of_warp // warps, MOST_WARPS // warps)


#: By the type of rows and VECTOR: for 2, 4 and 8 tiles, (instructions, moves) for each product and waves of the grid.
FEW = {
    ("unsigned char", 1): [(13.6, 0.7, 1), (8.1, 0.2, 2), (5.5, 0.1, 2)],
    ("Half", 1): [(17.7, 0.2, 1), (10.1, 0.1, 2), (6.1, 0.1, 2)],
    ("BFloat16", 1): [(20.2, 0.6, 1), (11.4, 0.4, 2), (6.7, 0.2, 2)],
    ("float", 1): [(18.9, 0.3, 1), (10.7, 0.2, 2), (6.6, 0.1, 2)],
    ("double", 1): [(33.8, 0.3, 1), (18.5, 0, 2), (12.9, 0.3, 2)],
    ("unsigned char", 0): [(30.7, 0.2, 1), (16.7, 0, 2), (9.8, 0.1, 2)],
    ("Half", 0): [(28.8, 0.2, 1), (15.9, 0.1, 2), (9.9, 0, 2)],
    ("BFloat16", 0): [(28.8, 0.2, 1), (15.9, 0.1, 2), (9.9, 0, 2)],
    ("float", 0): [(23.9, 0.4, 1), (13.2, 0.2, 2), (7.9, 0.2, 2)],
    ("double", 0): [(37, 0.3, 1), (19.8, 0, 2), (12.9, 0.8, 2)],
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("constants", variants("nearest_of_few"))
def test_the_loop_and_the_waves_of_few_centers(constants):
    instructions, moves, waves = FEW[constants["ROW"], constants["VECTOR"]][
        tuning.FEW_TILES.index(int(constants["TILES"]))
    ]
    (loop,) = sass.matrix_loops(disassembly("nearest_of_few", constants))
    assert loop.instructions <= instructions
    assert loop.moves <= moves
    n_blocks, at_a_time = -(-ROWS // tuning.FEW_ROWS), blocks_at_a_time("nearest_of_few", constants, tuning.FEW_ROWS)
    assert -(-n_blocks // (MULTIPROCESSORS * at_a_time)) <= waves


def test_the_loop_and_the_waves_of_few_centers_of_bytes():
    """Sixteen centers; per product of three times as many limbs by 8 rows and 32 columns."""
    file = "nearest_of_few_bytes"
    constants = next(constants for name, constants in nvrtc.variants() if name == file)
    (loop,) = sass.matrix_loops(disassembly(file, constants))
    assert loop.multiplications == 24
    assert loop.instructions <= 2.34
    assert loop.moves <= 0.1
    n_blocks, at_a_time = -(-ROWS // tuning.FEW_ROWS), blocks_at_a_time(file, constants, tuning.FEW_ROWS)
    assert n_blocks <= MULTIPROCESSORS * at_a_time


#: By BM, BN and CHUNK of tiles whose rows stay in shared memory: (instructions, moves) for each product.  Two moves are
#: those by which sums start, once for all steps.
RESIDENT = {(256, 64, 1): (5.5, 2.2), (128, 128, 2): (3.5, 0.2), (128, 256, 1): (5.7, 2.2)}
#: By the type of rows and VECTOR of tiles that read the rows again.
STREAMED = {
    ("unsigned char", 1): (7.7, 2.1),
    ("Half", 1): (7.2, 2.1),
    ("BFloat16", 1): (7.3, 2.1),
    ("float", 1): (7.4, 2.1),
    ("double", 1): (6.8, 2.4),
    ("unsigned char", 0): (14.5, 1.9),
    ("Half", 0): (10.5, 1.8),
    ("BFloat16", 0): (10.5, 1.8),
    ("float", 0): (10.6, 2),
    ("double", 0): (8.8, 1.9),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("constants", variants("nearest_of_many"))
def test_the_loop_and_the_blocks_of_many_centers(constants):
    if constants["PANEL_STEPS"]:
        instructions, moves = STREAMED[constants["ROW"], constants["VECTOR"]]
    else:
        instructions, moves = RESIDENT[constants["BM"], constants["BN"], constants["CHUNK"]]
    text = disassembly("nearest_of_many", constants)
    (loop,) = sass.matrix_loops(text)
    assert loop.instructions <= instructions
    assert loop.moves <= moves
    bm, bn, warps_m, warps_n, chunk = (int(constants[name]) for name in ("BM", "BN", "WARPS_M", "WARPS_N", "CHUNK"))
    step = sass.most_products(text)  # the words of rows and centers lie in the order of a product's registers
    assert step.multiplications == chunk * (bm // warps_m // 16) * (bn // warps_n // 8)
    assert step.instructions <= 2
    assert step.moves <= 0.4
    threads = 32 * warps_m * warps_n
    assert blocks_at_a_time("nearest_of_many", constants, threads) >= 256 // threads  # ScoreTile.blocks


# ---- the counts can fail --------------------------------------------------------------------------------------------

LOOPS = """
.text.k:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   IADD3 R2, R2, 0x1, RZ ;
.L_x_2:
        /*0020*/                   HMMA.16816.F32 R4, R8, R12, R4 ;
        /*0030*/                   IMAD.MOV.U32 R5, RZ, RZ, R6 ;
        /*0040*/                   IMAD R5, R5, R5, R6 ;
        /*0050*/              @!P0 MOV R9, R10 ;
        /*0060*/                   HMMA.16816.F32 R4, R8, R12, R4 ;
        /*0070*/               @P0 BRA `(.L_x_2) ;
        /*0080*/               @P1 BRA `(.L_x_1) ;
.L_x_3:
        /*0090*/                   FADD R1, R1, R2 ;
        /*00a0*/               @P0 BRA `(.L_x_3) ;
        /*00b0*/                   EXIT ;
"""


def test_the_innermost_loop_with_matrix_products_is_counted():
    (loop,) = sass.matrix_loops(LOOPS)
    assert (loop.multiplications, loop.instructions, loop.moves) == (2, 3.0, 1.0)
    assert sass.matrix_loops(LOOPS.replace("HMMA", "FFMA")) == []


def test_the_longest_run_of_products_is_counted():
    code = sass.most_products(LOOPS)
    assert (code.multiplications, code.instructions, code.moves) == (2, 3.0, 1.0)
    code = sass.most_products(LOOPS.replace("IMAD R5", "BRA `(.L_x_3) ;\n        /*0040*/ IMAD R5"))
    assert (code.multiplications, code.instructions, code.moves) == (1, 3.0, 1.0)
